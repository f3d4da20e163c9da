"""The images of list files, folders and globs."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.dataset_files import write_image
from utils.dataset.images import IMAGE_SUFFIXES
from utils.dataset.lists import list_entries, list_images
from utils.errors import InputError

# Lists


def paths_of(source):
    return [Path(name) for name in list_images(source)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with images; its subfolder `work` is the working directory."""
    for name in ("a.jpg", "sub dir/b.PNG", "v1.0/ä ö.模型.jpeg", "#c.jpg", "work/here.jpg", "work/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("a.jpg", "a.jpg"),  # the list's folder has priority over the working directory
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
def test_line_of_a_list(folder, line, image, end):
    (folder / "list.txt").write_bytes(f"# a comment\n\n  \n{line}{end}".encode())
    (found,) = list_images(folder / "list.txt")
    assert os.path.samefile(found, folder / image)


def test_list_in_the_working_directory(folder):
    Path("list.txt").write_text("a.jpg\n../a.jpg\n", encoding="utf-8")
    assert paths_of("list.txt") == [Path("a.jpg"), Path("../a.jpg")]
    assert paths_of("./list.txt") == [Path("a.jpg"), Path("../a.jpg")]


def test_absolute_paths_and_byte_order_mark(folder):
    paths = [folder / "v1.0" / "ä ö.模型.jpeg", folder / "a.jpg", folder / "a.jpg"]
    (folder / "list").write_text("\r\n".join(map(str, paths)), encoding="utf-8-sig", newline="")
    assert paths_of(folder / "list") == paths


def test_backslash_in_a_name(folder):
    (folder / "sub dir\\b.PNG").write_bytes(b"")
    (folder / "list.txt").write_text("sub dir\\b.PNG\n", encoding="utf-8")
    # The backslash is more likely a separator.
    assert paths_of(folder / "list.txt") == [folder / "sub dir" / "b.PNG"]
    shutil.rmtree(folder / "sub dir")
    assert paths_of(folder / "list.txt") == [folder / "sub dir\\b.PNG"]


def test_missing_images_are_expected_next_to_the_list(folder):
    (folder / "list.txt").write_text("gone.jpg\nno folder/gone.jpg\nC:\\x\\gone.jpg\n", encoding="utf-8")
    images = paths_of(folder / "list.txt")
    assert images[:2] == [folder / "gone.jpg", folder / "no folder" / "gone.jpg"]
    assert len(images) == 3


def test_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "work" / "list.txt").write_text("~/a.jpg\n~/sub dir/b.PNG\n", encoding="utf-8")
    assert paths_of("list.txt") == [folder / "a.jpg", folder / "sub dir" / "b.PNG"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "{path}: expected paths of images, one per line, found none"),
        ("# a.jpg\n\n", "{path}: expected paths of images, one per line, found none"),
        (
            "a.jpg\na.txt\n",
            "{path}:2: expected the path of an image (.avif .bmp",
        ),
        ("a.jpg\n\na.jpg 0\n", "{path}:3: expected the path of an image (.avif"),
        ("jpg\n", "{path}:1: expected the path of an image"),
        ("a/b.jpg/\n", "{path}:1: expected the path of an image"),
        ("x" * 1000, "{path}:1: expected the path of an image"),
        ("a.jpg\n" + "x" * 5000 + ".jpg\n", "{path}:2: expected the path of an image"),
        ("a.jpg\na\0b.jpg\n", "{path}:2: expected the path of an image"),
    ],
)
def test_malformed_list(tmp_path, content, message):
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
    lines = [str(image).replace("/", separators[position % 2]) for position, image in enumerate(images)]
    (folder / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    assert paths_of(folder / "list.txt") == [folder / image for image in images]


# Folders, globs and single images


def test_folder_is_searched_with_its_subfolders(folder):
    (folder / ".hidden").mkdir()
    for name in (".hidden/x.jpg", "._a.jpg", "notes.txt", "movie.mp4"):
        (folder / name).write_bytes(b"")
    names = ["#c.jpg", "a.jpg", "sub dir/b.PNG", "v1.0/ä ö.模型.jpeg", "work/a.jpg", "work/here.jpg"]
    assert paths_of(folder) == [folder / name for name in names]
    assert paths_of(".") == [Path("a.jpg"), Path("here.jpg")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jpg", ["#c.jpg", "a.jpg"]),
        ("*/*", ["sub dir/b.PNG", "v1.0/ä ö.模型.jpeg", "work/a.jpg", "work/here.jpg"]),
        ("**/[ab].*", ["a.jpg", "sub dir/b.PNG", "work/a.jpg"]),
    ],
)
def test_glob(folder, pattern, names):
    (folder / "a.txt").write_bytes(b"")
    (folder / "folder.jpg").mkdir()
    assert paths_of(folder / pattern) == [folder / name for name in names]


def test_folder_named_like_a_pattern(tmp_path):
    write_image(tmp_path / "set [1]" / "a.png")
    assert paths_of(tmp_path / "set [1]") == [tmp_path / "set [1]" / "a.png"]
    assert paths_of(tmp_path / "set [1]" / "a.png") == [tmp_path / "set [1]" / "a.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "empty",
            "{path}: expected images (.avif .bmp",
        ),
        (
            "empty/*.jpg",
            "{path}: expected images (.avif .bmp",
        ),
        ("gone.txt", "{path}: expected a list of images, a folder, a glob or an image"),
        ("gone/", "{path}: expected a list of images, a folder, a glob or an image"),
    ],
)
def test_missing_or_empty_source(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError) as raised:
        list_images(tmp_path / name)
    assert str(raised.value).startswith(message.format(path=tmp_path / name))


def test_folders_behind_links_are_searched_once(tmp_path):
    make_files(tmp_path / "elsewhere", "b.jpg")
    make_files(tmp_path / "set" / "sub", "a.jpg")
    (tmp_path / "set" / "more").symlink_to("../elsewhere")
    (tmp_path / "set" / "again").symlink_to("../elsewhere")
    (tmp_path / "set" / "sub" / "loop").symlink_to("..")
    names = [path.relative_to(tmp_path / "set").as_posix() for path in paths_of(tmp_path / "set")]
    assert names == ["again/b.jpg", "sub/a.jpg"]


def test_files_that_cannot_be_read_are_named(tmp_path, capsys):
    make_files(tmp_path, "a.jpg", "b.HEIC", "c.mp4", "d.txt", "e.xml")
    assert len(list_images(tmp_path)) == 1
    assert capsys.readouterr().err.endswith(": b.HEIC, c.mp4\n")


def test_a_name_that_begins_like_a_comment(tmp_path):
    make_files(tmp_path, "#1.jpg", "2.jpg")
    path = tmp_path / "list.txt"
    path.write_text("#1.jpg\n#2.jpg\n2.jpg\n# 2.jpg\n", encoding="utf-8")
    assert [image.name for image in paths_of(path)] == ["#1.jpg", "2.jpg"]
    assert [number for number, _ in list_entries(path)] == [1, 3]


def make_files(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
