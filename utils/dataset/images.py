"""Image files: which ones a list, folder or glob names, their pixels and their size.

Pixels are what `cv2.imread(path)` gives with its default flags, which is what the released checkpoints were
trained on: 8 bit, three channels in BGR order, EXIF orientation applied. Grey, palette, 16-bit and
transparent images become that too (alpha is dropped).
"""

import contextlib
import glob
import io
import os
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from utils.errors import InputError
from utils.files import find_path, read_text

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

_SUFFIXES = tuple(sorted(IMAGE_SUFFIXES))
_EXIF_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"

# PIL reads headers here; its guard against images that are too large to unpack would refuse large photographs.
Image.MAX_IMAGE_PIXELS = None
# What is wrong with a file is reported by the caller, once, and not by the libraries in their own forms as well.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL\.")


def list_images(source):
    """Images that `source` names, in its order.

    Args:
        source: a list file (see `read_list`), a folder (searched with its sub-folders, names sorted, hidden ones
            left out), a glob (`**` goes into sub-folders), or one image.
    Returns:
        list of Path; those of a list file may not exist, all others do.
    Raises:
        InputError: nothing is there, no image is in it, or a line of the list is not an image's name.
    """
    return [Path(name) for name in image_names(source)]


def image_names(source):
    """`list_images` as text: to make Path objects of a hundred thousand names takes half a second."""
    source = Path(source)
    if source.is_dir():
        names = _walk(source)
        if not names:
            raise InputError(f"{source}: expected images ({_suffix_text()}) in this folder, found none")
        return names
    if source.exists():
        return [os.fspath(source)] if is_image_name(source) else read_list(source)
    if glob.has_magic(os.fspath(source)):
        found = sorted(glob.glob(os.fspath(source), recursive=True))
        names = [name for name in found if is_image_name(name) and os.path.isfile(name)]
        if not names:
            raise InputError(f"{source}: expected images ({_suffix_text()}), this pattern matches none")
        return names
    raise InputError(f"{source}: expected a list of images, a folder, a glob or an image, found nothing there")


def read_list(path):
    """Images that a list file names, one a line; blank lines and lines that begin with `#` do not count.

    A path is absolute, or relative to the list file's folder, or else to the working directory. `\\` may stand
    for `/`. A path that is found nowhere is returned relative to the list file's folder.

    Returns:
        list of paths as text.
    Raises:
        InputError: the list cannot be read, names no image, or has a line that is not an image's name.
    """
    bases = (os.path.dirname(path), "")
    listed = {}  # folder as the list writes it: the folders that this can mean, each with the names in it
    images = []
    for number, line in list_entries(path):
        if not is_image_name(line):
            raise InputError(f"{path}:{number}: expected the path of an image ({_suffix_text()}), got {_short(line)}")
        # Looking a name up in a listing is many times faster than asking for each of 100,000 files.
        name = line.replace("\\", "/").rpartition("/")[2]
        written = line[: len(line) - len(name)]
        if written not in listed:
            listed[written] = _list_places(written, bases)
        for place, names in listed[written]:
            if name in names:
                images.append(place + name)
                break
        else:
            # Not there, or spelt otherwise on a file system that ignores case.
            images.append(os.fspath(find_path(line, bases)))
    if not images:
        raise InputError(f"{path}: expected paths of images, one a line, found none")
    return images


def list_entries(path):
    """(line number from 1, text) of each line of a list file that names something."""
    lines = [line.strip() for line in read_text(path).split("\n")]
    return [(number, line) for number, line in enumerate(lines, 1) if line and line[0] != "#"]


def is_image_name(name):
    """Whether a path's ending, in any case, is one of IMAGE_SUFFIXES."""
    return os.fspath(name).lower().endswith(_SUFFIXES)


def read_image(path):
    """Pixels of an image file.

    Returns:
        [H, W, 3] uint8, BGR, EXIF orientation applied.
    Raises:
        InputError: the file is missing, is no image, is cut short, or is too large to unpack.
    """
    data = _read_bytes(path)
    image = None
    if data.size and not _is_cut_short(data):
        try:
            # Not cv2.imread: on Windows it cannot open names outside the system's code page.
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise InputError(f"{path}: OpenCV cannot unpack this image: {error.err}") from error
    if image is None:
        raise InputError(f"{path}: expected an image, got {_describe(data)}")
    return image


def image_size(path):
    """(width, height) in pixels with EXIF orientation applied, read from the file's header only.

    Raises:
        InputError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            if isinstance(image, TiffImagePlugin.TiffImageFile):
                # PIL has already turned the size of some TIFF files, so the stored one is asked for.
                width, height = image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT]
            else:
                width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _TURNED
    except OSError as error:
        reason = f"cannot read: {error.strerror}" if error.strerror else "expected an image, its header is not one"
        raise InputError(f"{path}: {reason}") from error
    except Exception as error:  # PIL's readers raise SyntaxError, ValueError, struct.error … on damaged headers
        raise InputError(f"{path}: expected an image, its header is damaged") from error
    return (height, width) if turned else (width, height)


def _list_places(text, bases):
    """(prefix of a path, names in it) of each folder that `text` can mean, in the order of `find_path`."""
    places = []
    for spelling in dict.fromkeys((text, text.replace("\\", "/"))):
        for base in bases:
            folder = os.path.join(base, os.path.expanduser(spelling))
            with contextlib.suppress(OSError, ValueError):  # no such folder, or no path at all
                places.append((_prefix(folder), frozenset(os.listdir(folder or "."))))
    return places


def _prefix(folder):
    """What stands before a name in this folder, spelt as Path spells it: nothing for the working directory."""
    text = os.fspath(Path(folder))
    return "" if text == "." else os.path.join(text, "")


def _walk(folder):
    images = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        prefix = _prefix(parent)
        images += [prefix + name for name in sorted(names) if name[0] != "." and is_image_name(name)]
    return images


def _read_bytes(path):
    try:
        return np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error


def _is_cut_short(data):
    """Whether a JPEG file lacks its end: some decoders fill the missing part with grey instead of failing."""
    if data[:2].tobytes() != _JPEG_START:
        return False
    content = data.tobytes()
    # A thumbnail in the header has an end mark of its own, so the mark must come after the last scan began.
    # Zeros behind it are common, and so are a second picture or a film, which may hold any bytes: PIL decides then.
    if content.rstrip(b"\0").endswith(_JPEG_END) or content.rfind(_JPEG_END) > content.rfind(_JPEG_SCAN):
        return False
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception:  # PIL raises many kinds on damaged data
        return True
    return False


def _describe(data):
    if not data.size:
        return "an empty file"
    if _is_cut_short(data):
        return "a JPEG file that is cut short"
    return f"{data.size} bytes that OpenCV cannot decode"


def _suffix_text():
    return " ".join(_SUFFIXES)


def _short(text, limit=80):
    return repr(text if len(text) <= limit else text[:limit] + "…")
