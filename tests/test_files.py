"""Reading text, finding paths, and files that are never half there."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.errors import InputError
from utils.files import (
    atomic_path,
    check_writable,
    find_path,
    new_folder,
    read_text,
    unfinished_files,
    unfinished_name,
    write_text,
)

# read_text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", ""),
        (b"a\nb", "a\nb"),
        (b"a\r\nb\r\n", "a\nb\n"),
        (b"a\rb", "a\nb"),
        (b"a\r\n\rb\n", "a\n\nb\n"),
        (b"\xef\xbb\xbfa", "a"),
        ("größe 模型 😀".encode(), "größe 模型 😀"),
        (b"a\x0bb\x0cc\xe2\x80\xa8d", "a\x0bb\x0cc\u2028d"),
    ],
)
def test_read_text(tmp_path, content, text):
    (tmp_path / "x.txt").write_bytes(content)
    assert read_text(tmp_path / "x.txt") == text
    assert read_text(str(tmp_path / "x.txt")) == text


@given(st.text())
def test_read_text_gives_what_was_written(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "x.txt"
    write_text(path, text)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    assert read_text(path) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cannot read: No such file or directory"),
        (lambda path: path.mkdir(), "cannot read: Is a directory"),
        (lambda path: path.write_bytes(b"ab\xffc"), "expected UTF-8 text, got byte 0xff at offset 2"),
        (lambda path: path.write_bytes(b"\xef\xbb\xbf\x80"), "expected UTF-8 text, got byte 0x80 at offset 0"),
        (lambda path: path.write_bytes(b"a\xc3"), "expected UTF-8 text, got byte 0xc3 at offset 1"),
        (lambda path: path.symlink_to(path), "cannot read: Too many levels of symbolic links"),
    ],
    ids=["missing", "folder", "not UTF-8", "not UTF-8 after a mark", "cut character", "link to itself"],
)
def test_read_text_refuses(tmp_path, make, message):
    path = tmp_path / "x.txt"
    make(path)
    with pytest.raises(InputError) as caught:
        read_text(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_read_text_names_utf16(tmp_path, encoding):
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeffa.jpg\r\n".encode(encoding))
    with pytest.raises(InputError) as caught:
        read_text(path)
    assert str(caught.value).startswith(f"{path}: expected UTF-8 text")
    assert "UTF-16" in str(caught.value)


def test_read_text_with_a_name_that_is_too_long(tmp_path):
    with pytest.raises(InputError, match="cannot read: File name too long"):
        read_text(tmp_path / ("x" * 300))


# find_path


@pytest.fixture
def folders(tmp_path):
    """Two folders to look in, the second with sub/x.jpg."""
    for name in ("first", "second/sub"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "second/sub/x.jpg").touch()
    return tmp_path / "first", tmp_path / "second"


def test_find_path_looks_in_each_folder_in_turn(folders):
    first, second = folders
    assert find_path("sub/x.jpg", folders) == second / "sub/x.jpg"
    (first / "sub").mkdir()
    (first / "sub/x.jpg").touch()
    assert find_path("sub/x.jpg", folders) == first / "sub/x.jpg"


def test_find_path_of_what_is_nowhere_names_the_first_place(folders):
    assert find_path("sub/y.jpg", folders) == folders[0] / "sub/y.jpg"


def test_find_path_absolute(folders, tmp_path):
    assert find_path(str(folders[1] / "sub/x.jpg"), [tmp_path / "nowhere"]) == folders[1] / "sub/x.jpg"
    assert find_path("/nowhere/x.jpg", folders) == Path("/nowhere/x.jpg")


def test_find_path_in_the_home_folder(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(folders[1]))
    assert find_path("~/sub/x.jpg", ["elsewhere"]) == folders[1] / "sub/x.jpg"


def test_find_path_with_windows_separators(folders):
    assert find_path(r"sub\x.jpg", folders) == folders[1] / "sub/x.jpg"
    (folders[1] / r"sub\x.jpg").touch()  # a backslash can be part of a name here, and then it wins
    assert find_path(r"sub\x.jpg", folders) == folders[1] / r"sub\x.jpg"
    assert find_path(r"sub\y.jpg", folders) == folders[0] / r"sub\y.jpg"


@pytest.mark.parametrize("text", ["x" * 5000, "~nobody-of-this-name/x", "a\0b", "../" * 2000, "\udcff", " "])
def test_find_path_of_odd_names(folders, text):
    assert not os.path.exists(find_path(text, folders))


@given(st.text(min_size=1))
def test_find_path_never_fails(text):
    assert isinstance(find_path(text, [Path(), Path("tests")]), Path)


# atomic_path


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_path_makes_the_folder_and_the_file(tmp_path):
    target = tmp_path / "made" / "x.txt"
    with atomic_path(target) as path:
        assert path.parent == target.parent
        assert path.suffix == ".txt"
        assert not target.exists()
        path.write_text("new")
    assert target.read_text() == "new"
    assert listing(target.parent) == ["x.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_atomic_path_keeps_the_old_file_when_writing_fails(tmp_path, error):
    target = tmp_path / "x.txt"
    target.write_text("old")

    def fail_half_way():
        with atomic_path(target) as path:
            path.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["x.txt"]


KILLED = """
import os
import sys
from utils.files import atomic_path

with atomic_path(sys.argv[1]) as path:
    path.write_text("half")
    os.kill(os.getpid(), 9)
"""


def test_atomic_path_keeps_the_old_file_through_a_kill(tmp_path, repo):
    target = tmp_path / "x.txt"
    target.write_text("old")
    assert subprocess.run([sys.executable, "-c", KILLED, target], cwd=repo, check=False).returncode == -9
    assert target.read_text() == "old"


def test_atomic_path_when_the_writer_replaces_the_temporary_file(tmp_path):
    """Some libraries write next to their target and move."""
    target = tmp_path / "x.txt"
    with atomic_path(target) as path:
        (tmp_path / "other").write_text("moved")
        os.replace(tmp_path / "other", path)
    assert target.read_text() == "moved"
    assert listing(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_atomic_path_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "x.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", ["ü 模型 😀.txt", "no suffix", ".hidden", "a.b.c", "x" * 250 + ".txt", "模" * 80])
def test_atomic_path_with_odd_names(tmp_path, name):
    write_text(tmp_path / name, "x")
    assert listing(tmp_path) == [name]


def test_atomic_path_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_text("x.txt", "ü\n")
    assert (tmp_path / "x.txt").read_bytes() == "ü\n".encode()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("folder", "expected a file to write, got a folder or a device"),
        ("file/x.txt", "cannot write there: (Not a directory|.*file is a file)"),
        ("x" * 300 + "/x.txt", "cannot write there: File name too long"),
    ],
)
def test_atomic_path_refuses(tmp_path, target, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message), atomic_path(tmp_path / target):
        pytest.fail("the block must not run")
    assert listing(tmp_path) == ["file", "folder"]


def test_check_writable_leaves_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b" / "c.txt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="cannot write there: File name too long"):
        check_writable(tmp_path / "a" / ("x" * 300) / "c.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no device files")
def test_atomic_path_leaves_devices_alone():
    with pytest.raises(InputError, match=r"^/dev/null: expected a file to write, got a folder or a device$"):
        write_text("/dev/null", "x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


# new_folder


def test_new_folder_never_gives_the_same_twice(tmp_path):
    made = [new_folder(tmp_path / "runs" / "test", "exp") for _ in range(3)]
    assert [folder.name for folder in made] == ["exp", "exp-2", "exp-3"]
    assert all(folder.is_dir() for folder in made)


def test_new_folder_beside_a_file_of_its_name(tmp_path):
    (tmp_path / "exp").touch()
    assert new_folder(tmp_path, "exp") == tmp_path / "exp-2"


def test_new_folder_fills_gaps_but_touches_nothing(tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp" / "kept").touch()
    (tmp_path / "exp-3").mkdir()
    assert new_folder(str(tmp_path), "exp") == tmp_path / "exp-2"
    assert new_folder(tmp_path, "exp") == tmp_path / "exp-4"
    assert listing(tmp_path / "exp") == ["kept"]


@pytest.mark.parametrize(("parent", "reason"), [("file", "Not a directory"), ("x" * 300, "File name too long")])
def test_new_folder_refuses(tmp_path, parent, reason):
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        new_folder(tmp_path / parent, "exp")
    assert str(caught.value).startswith(f"{tmp_path / parent / 'exp'}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["a.b-c.pth", "x" * 251 + ".npy", "é" * 120 + ".npy", "plain"])
def test_temporary_files_are_found_by_the_name_of_their_target(tmp_path, name):
    (tmp_path / ".hidden-file").touch()
    (tmp_path / "a-12345678.pth").touch()
    with atomic_path(tmp_path / name) as temporary:
        assert unfinished_files(tmp_path) == [(temporary, unfinished_name(tmp_path / name))]
    assert unfinished_files(tmp_path) == []
