"""Zip files of data sets, which may be damaged or made to do harm."""

import stat
import zipfile

import pytest

from utils.convert.archive import extract, is_archive
from utils.errors import InputError


def write_zip(path, entries, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content, **options)
    return path


def test_files_are_extracted(tmp_path):
    entries = [("a/1.txt", b"0 .5 .5 .1 .1"), ("größe 猫.jpg", b"image"), ("__MACOSX/a/._1.txt", b"x")]
    source = write_zip(tmp_path / "set.zip", entries)
    assert is_archive(source)
    extract(source, tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")
    }
    assert found == {"a/1.txt": b"0 .5 .5 .1 .1", "größe 猫.jpg": b"image"}


def test_backslashes_of_windows_are_folders(tmp_path):
    entries = [zipfile.ZipInfo(), zipfile.ZipInfo()]
    for entry, name in zip(entries, ("set\\images\\", "set\\images\\a.jpg"), strict=True):
        entry.filename = entry.orig_filename = name
    source = write_zip(tmp_path / "set.zip", [(entries[0], b""), (entries[1], b"image")])
    extract(source, tmp_path / "out")
    assert (tmp_path / "out/set/images/a.jpg").read_bytes() == b"image"


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:\\evil.txt", "..\\evil.txt"])
def test_names_outside_the_folder(tmp_path, name):
    source = write_zip(tmp_path / "set.zip", [("good.txt", b"1"), (name, b"evil")])
    with pytest.raises(InputError, match=r"set\.zip: .*evil"):
        extract(source, tmp_path / "inner" / "out")
    assert not list(tmp_path.rglob("*evil*"))


def test_links(tmp_path):
    entry = zipfile.ZipInfo("link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    source = write_zip(tmp_path / "set.zip", [(entry, b"/etc/passwd")])
    with pytest.raises(InputError, match=r"set\.zip: .*'link'"):
        extract(source, tmp_path / "out")


def test_a_bomb(tmp_path):
    source = write_zip(tmp_path / "set.zip", [(f"{number}.bmp", bytes(50_000_000)) for number in range(2)])
    with pytest.raises(InputError, match=r"set\.zip: .*100000000 bytes"):
        extract(source, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip" * 100], ids=["empty", "short", "text"])
def test_other_files(tmp_path, content):
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"set\.zip: "):
        extract(tmp_path / "set.zip", tmp_path / "out")


def test_a_truncated_archive(tmp_path):
    source = write_zip(tmp_path / "set.zip", [("a.jpg", bytes(range(256)) * 100)])
    source.write_bytes(source.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"set\.zip: "):
        extract(source, tmp_path / "out")
