"""Which images a list, folder or glob names; the pixels and sizes of odd and damaged files."""

import io
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.dataset_files import write_picture
from utils.dataset.images import IMAGE_SUFFIXES, image_size, is_image_name, list_images, read_image
from utils.errors import InputError

# Lists


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a few pictures, whose sub-folder `work` is the working directory."""
    for name in ("a.jpg", "sub dir/b.PNG", "v1.0/ä ö.模型.jpeg", "#c.jpg", "work/here.jpg", "work/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("a.jpg", "a.jpg"),  # the list's folder comes before the working directory
        ("here.jpg", "work/here.jpg"),
        ("  a.jpg \t", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("sub dir/b.PNG", "sub dir/b.PNG"),
        ("sub dir\\b.PNG", "sub dir/b.PNG"),
        (".\\sub dir\\..\\a.jpg", "a.jpg"),
        ("sub dir/../a.jpg", "a.jpg"),
        ("../work/../work/here.jpg", "work/here.jpg"),
        ("v1.0/ä ö.模型.jpeg", "v1.0/ä ö.模型.jpeg"),
        ("./#c.jpg", "#c.jpg"),
        ("work/here.jpg", "work/here.jpg"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_a_line_of_a_list(folder, line, image, end):
    (folder / "list.txt").write_bytes(f"# a comment\n\n  \n{line}{end}".encode())
    (found,) = list_images(folder / "list.txt")
    assert found.samefile(folder / image)


def test_a_list_opened_from_its_own_folder(folder):
    Path("list.txt").write_text("a.jpg\n../a.jpg\n", encoding="utf-8")
    assert list_images("list.txt") == [Path("a.jpg"), Path("../a.jpg")]
    assert list_images("./list.txt") == [Path("a.jpg"), Path("../a.jpg")]


def test_a_list_of_absolute_paths_with_a_mark_of_utf8(folder):
    paths = [folder / "v1.0" / "ä ö.模型.jpeg", folder / "a.jpg", folder / "a.jpg"]
    (folder / "list").write_text("\r\n".join(map(str, paths)), encoding="utf-8-sig", newline="")
    assert list_images(folder / "list") == paths


def test_a_name_with_a_backslash_in_it(folder):
    (folder / "sub dir\\b.PNG").write_bytes(b"")
    (folder / "list.txt").write_text("sub dir\\b.PNG\n", encoding="utf-8")
    # The reading with a folder is the likelier one.
    assert list_images(folder / "list.txt") == [folder / "sub dir" / "b.PNG"]
    shutil.rmtree(folder / "sub dir")
    assert list_images(folder / "list.txt") == [folder / "sub dir\\b.PNG"]


def test_missing_images_are_where_they_would_be(folder):
    (folder / "list.txt").write_text("gone.jpg\nno folder/gone.jpg\nC:\\x\\gone.jpg\n\0.jpg\n", encoding="utf-8")
    images = list_images(folder / "list.txt")
    assert images[:2] == [folder / "gone.jpg", folder / "no folder" / "gone.jpg"]
    assert len(images) == 4


def test_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "work" / "list.txt").write_text("~/a.jpg\n~/sub dir/b.PNG\n", encoding="utf-8")
    assert list_images("list.txt") == [folder / "a.jpg", folder / "sub dir" / "b.PNG"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "{path}: expected paths of images, one a line, found none"),
        ("# a.jpg\n\n", "{path}: expected paths of images, one a line, found none"),
        (
            "a.jpg\na.txt\n",
            "{path}:2: expected the path of an image (.bmp .jpeg .jpg .png .tif .tiff .webp), got 'a.txt'",
        ),
        ("a.jpg\n\na.jpg 0\n", "{path}:3: expected the path of an image (.bmp"),
        ("jpg\n", "{path}:1: expected the path of an image"),
        ("a/b.jpg/\n", "{path}:1: expected the path of an image"),
        ("x" * 1000, "{path}:1: expected the path of an image"),
    ],
)
def test_a_malformed_list(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        list_images(path)
    assert str(raised.value).startswith(message.format(path=path))
    assert len(str(raised.value)) < len(str(path)) + 250


name_parts = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20
)


@settings(max_examples=50)
@given(st.lists(st.tuples(name_parts, name_parts, st.sampled_from(sorted(IMAGE_SUFFIXES))), min_size=1, max_size=5))
@pytest.mark.skipif(os.name == "nt", reason="Windows allows fewer names")
def test_any_name_is_found(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("list")
    images = [Path(f"d{parent}e") / f"i{stem}{suffix}" for parent, stem, suffix in parts]
    for image in images:
        (folder / image).parent.mkdir(exist_ok=True)
        (folder / image).write_bytes(b"")
    separators = ["/", "\\"]
    lines = [str(image).replace("/", separators[number % 2]) for number, image in enumerate(images)]
    (folder / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    assert list_images(folder / "list.txt") == [folder / image for image in images]


# Folders, globs, single images


def test_a_folder_is_searched_with_its_sub_folders(folder):
    (folder / ".hidden").mkdir()
    for name in (".hidden/x.jpg", "._a.jpg", "notes.txt", "movie.mp4"):
        (folder / name).write_bytes(b"")
    names = ["#c.jpg", "a.jpg", "sub dir/b.PNG", "v1.0/ä ö.模型.jpeg", "work/a.jpg", "work/here.jpg"]
    assert list_images(folder) == [folder / name for name in names]
    assert list_images(".") == [Path("a.jpg"), Path("here.jpg")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["#c.jpg", "a.jpg"]),
        ("*/*", ["sub dir/b.PNG", "v1.0/ä ö.模型.jpeg", "work/a.jpg", "work/here.jpg"]),
        ("**/[ab].*", ["a.jpg", "sub dir/b.PNG", "work/a.jpg"]),
    ],
)
def test_a_glob(folder, pattern, names):
    (folder / "a.txt").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    assert list_images(folder / pattern) == [folder / name for name in names]


def test_a_folder_named_like_a_pattern(tmp_path):
    write_picture(tmp_path / "set [1]" / "a.png")
    assert list_images(tmp_path / "set [1]") == [tmp_path / "set [1]" / "a.png"]
    assert list_images(tmp_path / "set [1]" / "a.png") == [tmp_path / "set [1]" / "a.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "{path}: expected images (.bmp .jpeg .jpg .png .tif .tiff .webp) in this folder, found none"),
        ("empty/*.jpg", "{path}: expected images (.bmp .jpeg .jpg .png .tif .tiff .webp), this pattern matches none"),
        ("gone.txt", "{path}: expected a list of images, a folder, a glob or an image, found nothing there"),
        ("gone/", "{path}: expected a list of images, a folder, a glob or an image, found nothing there"),
    ],
)
def test_nothing_there(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as raised:
        list_images(tmp_path / name)
    assert str(raised.value) == message.format(path=tmp_path / name)


def test_image_names():
    assert all(is_image_name(name) for name in ("a.jpg", "a.JPEG", "a.b.Tif", Path("x.y/a.webp")))
    assert not any(is_image_name(name) for name in ("a", "jpg", "a.jpg.txt", "a.jpg/b", "a.gif", "a.jpg "))


# Pixels and size

gradient = np.linspace(0, 255, 60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)


def check_reading(path):
    """Pixels are OpenCV's own, and the size from the header is theirs."""
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    expected = cv2.imread(os.fspath(path))
    assert (image == expected).all()
    assert image_size(path) == (image.shape[1], image.shape[0])
    return image


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("name", ["a", "ä ö 模型.x", "A.B"])
def test_formats(tmp_path, suffix, name):
    for path in (tmp_path / f"{name}{suffix}", tmp_path / f"{name}{suffix.upper()}"):
        Image.fromarray(gradient).save(path)
        assert check_reading(path).shape == (60, 80, 3)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".png", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [(".jpg", mode) for mode in ("L", "RGB", "CMYK")]
    + [(".tif", mode) for mode in ("L", "RGB", "RGBA", "I;16")]
    + [(".bmp", mode) for mode in ("1", "L", "P", "RGB")]
    + [(".webp", mode) for mode in ("RGB", "RGBA")],
)
def test_modes_become_eight_bit_colour(tmp_path, suffix, mode):
    if mode == "I;16":
        image = Image.fromarray(gradient[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gradient).convert(mode)
    image.save(tmp_path / f"a{suffix}")
    assert check_reading(tmp_path / f"a{suffix}").shape == (60, 80, 3)


def test_colour_order_and_dropped_alpha(tmp_path):
    Image.new("RGBA", (3, 2), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == (30, 20, 10)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3000, 2000)])
def test_sizes(tmp_path, size):
    Image.new("RGB", size, (1, 2, 3)).save(tmp_path / "a.png")
    assert check_reading(tmp_path / "a.png").shape == (size[1], size[0], 3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(gradient).save(path, exif=exif)
    height, width = read_image(path).shape[:2]
    assert image_size(path) == (width, height)
    if suffix != ".tif":  # OpenCV 5 reads turned TIFF files from memory only
        check_reading(path)
        assert (width, height) == ((60, 80) if orientation >= 5 else (80, 60))


def test_an_orientation_that_is_none(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    Image.fromarray(gradient).save(tmp_path / "a.jpg", exif=exif)
    assert check_reading(tmp_path / "a.jpg").shape == (60, 80, 3)


def test_real_photographs(shared):
    for path in list_images(shared / "coco-val128" / "val.txt")[::8]:
        check_reading(path)


# Damaged files


def encode(suffix, **options):
    buffer = io.BytesIO()
    # Noise, because a cut in the last run of equal pixels would lose nothing.
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(picture).save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_a_file_that_is_cut_short(tmp_path, suffix, kept):
    content = encode(suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: expected an image, got ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_cut_photograph_with_a_whole_thumbnail(tmp_path, options):
    thumbnail = encode(".jpg")
    exif = b"Exif\0\0" + thumbnail  # where it is in the header does not matter, that it ends there does
    content = encode(".jpg", exif=exif, **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert read_image(path).shape == (60, 80, 3)
    path.write_bytes(content[:-200])
    with pytest.raises(InputError, match="expected an image, got a JPEG file that is cut short"):
        read_image(path)


@pytest.mark.parametrize("tail", [b"\0" * 50, b"SEFH\xff\xda appended film", b"\xff\xd8\xff\xda\xff\xd9", b"\n"])
def test_what_cameras_append_does_no_harm(tmp_path, tail):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(".jpg") + tail)
    check_reading(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"<html>not found</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_file_that_is_no_image(tmp_path, capfd, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(InputError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: expected an image, ")
        assert "\n" not in str(raised.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("read", [read_image, image_size])
def test_a_file_that_cannot_be_read(tmp_path, read):
    with pytest.raises(InputError) as raised:
        read(tmp_path / "gone.jpg")
    assert str(raised.value) == f"{tmp_path / 'gone.jpg'}: cannot read: No such file or directory"
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(InputError, match="cannot read: Is a directory"):
        read(tmp_path / "folder.jpg")


@settings(max_examples=200)
@given(st.data())
def test_no_damage_gets_past(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from([".jpg", ".png", ".bmp", ".webp", ".tif"]))
    content = bytearray(encode(suffix))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_image, image_size):
        try:
            result = read(path)
        except InputError:
            continue
        assert len(result) > 0
