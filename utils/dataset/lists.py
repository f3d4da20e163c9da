"""Lists of images: list files, folders, globs and single images."""

import contextlib
import glob
import os
from pathlib import Path

from utils.config import Config
from utils.dataset.images import OTHER_SUFFIXES, SUFFIX_TEXT, is_image_name
from utils.dataset.shapes import draw_missing_set
from utils.errors import InputError, warn
from utils.files import MAX_PATH, find_path, read_text
from utils.text import list_names, shorten


def list_path(config: Config, key: str) -> Path:
    """Path of the list `key` ("train" or "val") of a .data file.

    Raises:
        InputError: the .data file has no such list.
    """
    path = getattr(config, key)
    if path is None:
        raise InputError(f"{config.path}: {key}: expected a list of images, got None")
    return path


def list_images(source: str | Path) -> list[str]:
    """List the images of `source`, in order. The synthetic data set is drawn if `source` is its list and missing.

    Args:
        source: a list file (see `_read_list`); a folder, searched with its subfolders and links to folders, sorted by
            name, without hidden files; a glob, where `**` matches subfolders; or one image.

    Returns:
        Paths of the images. Those from a list file may be missing.

    Raises:
        InputError: `source` does not exist or contains no image, or a line of the list is not the name of an image.
    """
    source = Path(source)
    draw_missing_set(source)
    if source.is_dir():
        names = _walk(source)
        if not names:
            raise InputError(f"{source}: expected images ({SUFFIX_TEXT}) in this folder, found none")
    elif source.suffix.lower() in OTHER_SUFFIXES and source.is_file():
        raise InputError(f"{source}: expected an image ({SUFFIX_TEXT}), this format cannot be read: convert it to JPEG")
    elif source.exists():
        names = [os.fspath(source)] if is_image_name(source) else _read_list(source)
    elif glob.has_magic(os.fspath(source)):
        found = sorted(glob.glob(os.fspath(source), recursive=True))
        names = [name for name in found if is_image_name(name) and os.path.isfile(name)]
        if not names:
            raise InputError(f"{source}: expected images ({SUFFIX_TEXT}), this pattern matches none")
    else:
        raise InputError(f"{source}: expected a list of images, a folder, a glob or an image, found nothing there")
    return names


def list_entries(path: str | Path) -> list[tuple[int, str]]:
    """Line numbers (from 1) and texts of a list file, without blank lines and comments.

    A line that begins with `#` is a comment, unless it is the name of an image that exists.
    """
    lines = [line.strip() for line in read_text(path).split("\n")]
    bases = _bases(path)
    return [
        (line_number, line)
        for line_number, line in enumerate(lines, 1)
        if line and (line[0] != "#" or (is_image_name(line) and os.path.exists(find_path(line, bases))))
    ]


def _bases(path: str | Path) -> tuple[str, str]:
    """Folders that the paths in a list file are relative to."""
    return os.path.dirname(path), ""


def _read_list(path: Path) -> list[str]:
    """Read a list file: one image per line; blank lines and comments are skipped.

    A path is absolute, or relative to the list file's folder or the working directory. `\\` may replace `/`. A path
    that does not exist is returned relative to the list file's folder.
    """
    bases = _bases(path)
    listings = {}  # folder as written in the list: see _list_folders
    images = []
    for line_number, line in list_entries(path):
        if "\0" in line or len(line) > MAX_PATH:
            raise InputError(
                f"{path}:{line_number}: expected the path of an image, at most {MAX_PATH} characters without NUL, "
                f"got {shorten(line, 80)!r}"
            )
        if not is_image_name(line):
            raise InputError(
                f"{path}:{line_number}: expected the path of an image ({SUFFIX_TEXT}), got {shorten(line, 80)!r}"
            )
        # Listing a folder once is many times faster than one file access per image.
        name = line.replace("\\", "/").rpartition("/")[2]
        folder = line[: len(line) - len(name)]
        if folder not in listings:
            listings[folder] = _list_folders(folder, bases)
        for prefix, names in listings[folder]:
            if name in names:
                images.append(prefix + name)
                break
        else:
            # The image is missing, or has another case on a file system that ignores case.
            images.append(os.fspath(find_path(line, bases)))
    if not images:
        raise InputError(f"{path}: expected paths of images, one per line, found none")
    return images


def _list_folders(text: str, bases: tuple[str, ...]) -> list[tuple[str, frozenset[str]]]:
    """(path prefix, names of the files) of each folder that `text` can mean, in the order of `find_path`."""
    folders = []
    for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
        for base in bases:
            folder = os.path.join(base, os.path.expanduser(spelling))
            with contextlib.suppress(OSError, ValueError):  # no such folder, or not a valid path
                folders.append((_prefix(folder), frozenset(os.listdir(folder or "."))))
    return folders


def _prefix(folder: str) -> str:
    """Prefix of the paths in a folder, as Path writes it: empty for the working directory."""
    text = os.fspath(Path(folder))
    return "" if text == "." else os.path.join(text, "")


def _walk(folder: Path) -> list[str]:
    """Paths of the images in a folder and its subfolders; a folder with several links to it is searched once."""
    images, others, seen = [], [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        prefix = _prefix(parent)
        visible = sorted(name for name in names if name[0] != ".")
        images += [prefix + name for name in visible if is_image_name(name)]
        others += [name for name in visible if os.path.splitext(name)[1].lower() in OTHER_SUFFIXES]
    if others:
        warn(f"{folder}: {len(others)} files are left out, because their format cannot be read: {list_names(others)}")
    return images
