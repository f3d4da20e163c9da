"""Pixels and sizes of images in unusual formats and of damaged files."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from utils.dataset.images import (
    IMAGE_SUFFIXES,
    TRANSPOSED,
    check_size,
    is_image_name,
    read_header,
    read_image,
)
from utils.dataset.lists import list_images
from utils.errors import InputError


def test_image_names():
    assert all(is_image_name(name) for name in ("a.jpg", "a.JPEG", "a.b.Tif", Path("x.y/a.webp")))
    assert not any(is_image_name(name) for name in ("a", "jpg", "a.jpg.txt", "a.jpg/b", "a.heic", "a.jpg "))


# Pixels and size

gradient = np.linspace(0, 255, 60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)


def check_reading(path):
    """Compare the pixels with cv2.imread, and the size in the header with the pixels."""
    image = read_image(path)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    expected = cv2.imread(os.fspath(path))
    assert (image == expected).all()
    assert read_header(path).size == (image.shape[1], image.shape[0])
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
def test_modes_are_converted_to_eight_bit_color(tmp_path, suffix, mode):
    if mode == "I;16":
        image = Image.fromarray(gradient[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gradient).convert(mode)
    image.save(tmp_path / f"a{suffix}")
    assert check_reading(tmp_path / f"a{suffix}").shape == (60, 80, 3)


def test_color_order_and_dropped_alpha(tmp_path):
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
    assert read_header(path).size == (width, height)
    assert read_header(path).orientation == orientation
    if suffix != ".tif":  # OpenCV 5 reads rotated TIFF files from memory only
        check_reading(path)
        assert (width, height) == ((60, 80) if orientation >= 5 else (80, 60))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".gif", ".bmp", ".jp2", ".ppm"])
def test_size_and_pixels_agree(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    try:
        Image.fromarray(gradient).save(path, exif=exif)
    except (OSError, KeyError) as error:
        pytest.skip(f"this build of Pillow cannot write {suffix}: {error}")
    assert read_header(path).size == read_image(path).shape[1::-1]
    rotated = read_header(path).orientation in TRANSPOSED
    assert read_header(path).size == ((60, 80) if rotated else (80, 60))


def test_pillow_decodes_what_opencv_cannot(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.fromarray(gradient).save(path)
    expected = read_image(path)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: None)
    assert np.abs(read_image(path).astype(int) - expected).max() <= 2


def test_pixels_without_a_known_range_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.linspace(0, 1, 4800, dtype=np.float32).reshape(60, 80)).save(path)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: .*type F"):
        read_image(path)


def test_invalid_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    Image.fromarray(gradient).save(tmp_path / "a.jpg", exif=exif)
    assert check_reading(tmp_path / "a.jpg").shape == (60, 80, 3)
    assert read_header(tmp_path / "a.jpg").orientation == 1


def xmp(orientation):
    """An XMP packet with this orientation."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_orientation_in_xmp_only_is_not_applied(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(gradient).save(path, xmp=xmp(orientation))
    assert check_reading(path).shape == (60, 80, 3)
    assert read_header(path).orientation == 1


def test_real_photographs(shared):
    for path in list_images(shared / "coco-val128" / "val.txt")[::8]:
        check_reading(path)


# Damaged files


def encode(suffix, **options):
    buffer = io.BytesIO()
    # Noise: truncating a run of equal pixels would lose nothing.
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(image).save(buffer, Image.registered_extensions()[suffix], **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_truncated_file(tmp_path, suffix, kept):
    content = encode(suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: expected an image, got ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_truncated_photograph_with_a_complete_thumbnail(tmp_path, options):
    thumbnail = encode(".jpg")
    exif = b"Exif\0\0" + thumbnail  # the thumbnail's end marker is in the header
    content = encode(".jpg", exif=exif, **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert read_image(path).shape == (60, 80, 3)
    path.write_bytes(content[:-200])
    with pytest.raises(InputError, match="expected an image, got a JPEG file that is cut short"):
        read_image(path)


@pytest.mark.parametrize("tail", [b"\0" * 50, b"SEFH\xff\xda appended film", b"\xff\xd8\xff\xda\xff\xd9", b"\n"])
def test_data_appended_by_cameras_is_ignored(tmp_path, tail):
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(".jpg") + tail)
    check_reading(path)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"<html>not found</html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_file_that_is_not_an_image(tmp_path, capfd, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_image, read_header):
        with pytest.raises(InputError) as raised:
            read(path)
        assert str(raised.value).startswith(f"{path}: expected an image, ")
        assert "\n" not in str(raised.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("read", [read_image, read_header])
def test_unreadable_file(tmp_path, read):
    with pytest.raises(InputError) as raised:
        read(tmp_path / "gone.jpg")
    assert str(raised.value) == f"{tmp_path / 'gone.jpg'}: cannot read: No such file or directory"
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(InputError, match=r"folder\.jpg: .*(folder|directory)"):
        read(tmp_path / "folder.jpg")


@settings(max_examples=200)
@given(st.data())
def test_damaged_files_raise_only_input_errors(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from([".jpg", ".png", ".bmp", ".webp", ".tif"]))
    content = bytearray(encode(suffix))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_image, read_header):
        try:
            result = read(path)
        except InputError:
            continue
        assert len(result) > 0


def large_png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def with_size(suffix, size, large):
    """A small image in whose header the bytes of the size 64x48 are replaced."""
    content = io.BytesIO()
    Image.new("RGB", (64, 48)).save(content, suffix)
    assert content.getvalue().count(size) >= 1
    return content.getvalue().replace(size, large)


BOMBS = {
    "png": large_png,
    "jpeg": lambda: with_size("jpeg", b"\x00\x30\x00\x40", b"\xff\xff\xff\xff"),
    "bmp": lambda: with_size("bmp", struct.pack("<ii", 64, 48), struct.pack("<ii", 60_000, 60_000)),
    "gif": lambda: with_size("gif", struct.pack("<HH", 64, 48), struct.pack("<HH", 65_000, 65_000)),
    "ppm": lambda: b"P6\n100000 100000\n255\n" + bytes(100),
}


@pytest.mark.parametrize("suffix", BOMBS)
def test_small_files_of_huge_images_are_refused_before_they_are_decoded(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"bomb.{suffix}"
    path.write_bytes(BOMBS[suffix]())
    monkeypatch.setattr(cv2, "imdecode", None)
    for read in (read_header, read_image):
        with pytest.raises(InputError, match=rf"bomb\.{suffix}: .*268,435,456 pixels, got \d+x\d+"):
            read(path)


def test_a_satellite_image_is_not_too_large():
    check_size("satellite.tif", 20_000, 10_000)


def test_files_that_are_too_large_or_no_files(tmp_path):
    sparse = tmp_path / "sparse.bmp"
    with sparse.open("wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(InputError, match=r"sparse\.bmp: .*2,147,483,649"):
        read_image(sparse)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(InputError, match=r"pipe\.png: "):
            read_image(tmp_path / "pipe.png")
