"""Extract the zip file of a data set, which is not trusted."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from utils.errors import InputError, RunError

MAX_RATIO = 200  # extracted bytes per byte of the archive; labels reach 10, and images with large flat areas 100
MIN_ENTRY = 76  # bytes that each file needs at least in an archive: two headers
_IGNORED = ("__MACOSX", ".DS_Store")


def is_archive(source: Path) -> bool:
    """Whether a path is a zip file, by its suffix."""
    return source.suffix.lower() == ".zip" and source.is_file()


def extract(source: Path, target: Path) -> None:
    """Extract a zip file into a new folder.

    Raises:
        InputError: not a zip file, a damaged or encrypted one, names outside `target`, links, or much more extracted
            data than an archive of images has.
        RunError: not enough space on the disk.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not set(_IGNORED) & set(entry.filename.split("/"))]
            for entry in entries:
                _check_entry(source, entry)
                # Some tools for Windows write backslashes, which are part of the file name elsewhere.
                entry.filename = entry.filename.replace("\\", "/")
            target.mkdir(parents=True)
            _check_size(source, sum(entry.file_size for entry in entries), len(entries), target)
            for entry in tqdm(entries, "extracting", disable=None):
                archive.extract(entry, target)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source}: expected a zip file: {error}") from error
    except OSError as error:
        raise RunError(f"{source}: cannot extract to {target}: {error.strerror or error}") from error


def _check_entry(source: Path, entry: zipfile.ZipInfo) -> None:
    # ZipInfo.filename ends at the first NUL; orig_filename is the whole name.
    name = entry.orig_filename
    windows = PureWindowsPath(name)
    if ".." in windows.parts or windows.drive or windows.root or PurePosixPath(name).is_absolute() or "\0" in name:
        raise InputError(f"{source}: expected names inside the archive, got {name!r}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{source}: expected files and folders, got a link or a device: {name!r}")
    if entry.flag_bits & 1:
        raise InputError(f"{source}: expected a zip file without password, got an encrypted file: {name!r}")


def _check_size(source: Path, size: int, count: int, target: Path) -> None:
    own = source.stat().st_size
    if size > MAX_RATIO * own or count * MIN_ENTRY > own:
        raise InputError(
            f"{source}: expected an archive of images and labels, got {count} files of {size} bytes in {own} bytes"
        )
    free = shutil.disk_usage(target).free
    if size > free:
        raise RunError(f"{source}: needs {size} bytes in {target}, where {free} are free")
