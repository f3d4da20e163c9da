"""Image files: pixels and sizes.

Pixels are those of `cv2.imread(path)` with its default flags, which the released weights were trained on: 8 bits,
three channels in BGR order, EXIF orientation applied. Gray, palette, 16-bit and transparent images are converted
(alpha is dropped). The orientation is the one that PIL reads, so that sizes and pixels agree: OpenCV ignores it in AVIF
and in animations.
"""

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from utils.errors import InputError
from utils.files import read_bytes

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"}
    | {".gif", ".avif", ".jp2", ".ppm", ".pgm", ".pbm"}  # a .gif is read as its first image
)
SUFFIX_TEXT = " ".join(sorted(IMAGE_SUFFIXES))

# Images and videos that users have in their folders and that cannot be read.
OTHER_SUFFIXES = frozenset(
    {".heic", ".heif", ".jxl", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".psd", ".svg", ".tga"}
    | {".exr", ".hdr", ".ico", ".pdf", ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".wmv", ".mts"}
)

# A small file can claim any size. 2^28 pixels, for example 16384x16384, take 0.8 GB when decoded.
MAX_PIXELS = 2**28

TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height

_SUFFIXES = tuple(IMAGE_SUFFIXES)
_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS = range(1, 9)
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # EXIF orientation: code of cv2.flip, applied after that exchange
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of PIL, with 8 bits per channel or less
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"

# PIL's own limit on the number of pixels would reject large photographs; `check_size` has another limit.
Image.MAX_IMAGE_PIXELS = None
# The caller reports damaged files; the libraries must not report them a second time.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL\.")


def is_image_name(name: str | os.PathLike) -> bool:
    """Whether a path ends with one of IMAGE_SUFFIXES, in upper or lower case."""
    return os.fspath(name).lower().endswith(_SUFFIXES)


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file.

    Returns:
        [H, W, 3] uint8, BGR, EXIF orientation applied.

    Raises:
        InputError: the file is missing, not an image, truncated, or has more than MAX_PIXELS.
    """
    return decode_image(read_bytes(path), path)


def decode_image(content: bytes, path: str | Path) -> np.ndarray:
    """Decode the content of an image file as `read_image` does.

    Args:
        path: of the file, or its address, for messages.

    Raises:
        InputError: as `read_image`.
    """
    data = np.frombuffer(content, np.uint8)
    orientation = _decoding_orientation(path, data)
    image = None
    if data.size and not _is_truncated(data):
        try:
            # Not cv2.imread: on Windows it cannot open names outside the system's code page.
            image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error as error:
            raise InputError(f"{path}: OpenCV cannot decode this image: {error.err}") from error
        if image is None:
            image = _decode_with_pillow(path, data)
    if image is None:
        raise InputError(f"{path}: expected an image, got {_describe(data)}")
    if orientation in TRANSPOSED:
        image = cv2.transpose(image)
    return cv2.flip(image, _FLIPS[orientation]) if orientation in _FLIPS else image


def check_size(path: str | Path, width: float, height: float) -> None:
    """Check the size of an image or of the frames of a video before it is decoded.

    Raises:
        InputError: more than MAX_PIXELS.
    """
    if width * height > MAX_PIXELS:
        raise InputError(f"{path}: expected at most {MAX_PIXELS:,} pixels, got {width:.0f}x{height:.0f}")


def _decoding_orientation(path: str | Path, data: np.ndarray) -> int:
    """Check the size in the header of a file's content, and return the orientation that decoding has to apply."""
    orientation, size = 1, (0, 0)
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as header:  # many types on damaged headers
        size = header.size
        if not isinstance(header, TiffImagePlugin.TiffImageFile):  # OpenCV and PIL rotate TIFF files themselves
            orientation = _orientation(header)
    check_size(path, *size)
    return orientation


def _decode_with_pillow(path: str | Path, data: np.ndarray) -> np.ndarray | None:
    """Decode a format that this build of OpenCV lacks; None if PIL cannot decode it either.

    Pixels of a type without a defined value of white, for example float, are an error.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            pixels = np.asarray(image.convert("RGB")) if mode in _MODES else None
    except Exception:  # PIL raises many types on damaged data
        return None
    if pixels is None:
        raise InputError(f"{path}: expected 8 or 16 bits per channel, got pixels of type {mode}; save it as PNG")
    return np.ascontiguousarray(pixels[..., ::-1])


class ImageHeader(NamedTuple):
    """What the header of an image file says; sizes are (width, height) in pixels."""

    size: tuple[int, int]  # of the displayed image
    orientation: int  # EXIF orientation, 1…8; 1: the stored image is displayed unchanged
    stored_size: tuple[int, int]


def read_header(path: str | Path) -> ImageHeader:
    """Read the size and the EXIF orientation of an image file.

    Raises:
        InputError: the file is missing or not an image, or has more than MAX_PIXELS.
    """
    try:
        with Image.open(path) as image:
            check_size(path, *image.size)
            stored_size = image.size
            if isinstance(image, TiffImagePlugin.TiffImageFile):  # PIL has already rotated the size of some
                stored_size = (image.tag_v2[_TIFF_WIDTH], image.tag_v2[_TIFF_HEIGHT])
            orientation = _orientation(image)
    except InputError:
        raise
    except OSError as error:
        reason = f"cannot read: {error.strerror}" if error.strerror else "expected an image, got an unknown format"
        raise InputError(f"{path}: {reason}") from error
    except Exception as error:  # PIL raises SyntaxError, ValueError, struct.error and others on damaged headers
        raise InputError(f"{path}: expected an image, got a damaged header") from error
    size = stored_size[::-1] if orientation in TRANSPOSED else stored_size
    return ImageHeader(size, orientation, stored_size)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1…8. Not with `getexif`: it also reads XMP, whose orientation OpenCV ignores."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        orientation = image.tag_v2.get(_EXIF_ORIENTATION)
    else:
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(_EXIF_ORIENTATION)
    return orientation if orientation in _ORIENTATIONS else 1


def _is_truncated(data: np.ndarray) -> bool:
    """Whether the end of a JPEG file is missing: some decoders fill the missing part with gray instead of failing."""
    if data[:2].tobytes() != _JPEG_START:
        return False
    content = data.tobytes()
    # A thumbnail in the header has its own end marker, so only a marker after the start of the last scan counts.
    # Zeros after it are common. A second image or a video after it may contain any bytes; then PIL decides.
    if content.rstrip(b"\0").endswith(_JPEG_END) or content.rfind(_JPEG_END) > content.rfind(_JPEG_SCAN):
        return False
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception:  # PIL raises many types on damaged data
        return True
    return False


def _describe(data: np.ndarray) -> str:
    if not data.size:
        return "an empty file"
    if _is_truncated(data):
        return "a JPEG file that is cut short"
    return f"{data.size} bytes that OpenCV cannot decode"


def resize_image(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize an image to input size: bilinear, without keeping the aspect ratio, as the released weights expect."""
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def read_resized(path: str | Path, width: int, height: int) -> np.ndarray:
    """Decode an image file and resize it to input size, see `read_image` and `resize_image`."""
    return resize_image(read_image(path), width, height)
