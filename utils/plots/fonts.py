"""Texts and fonts of class names: DejaVu Sans, which is part of matplotlib, or a font that the user gives.

Without matplotlib, Pillow's own font draws ASCII names.
"""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont, features

from utils.errors import InputError, warn
from utils.optional import require

_REPLACEMENT = "\ufffd"  # drawn instead of a character that the font does not have
_JOINERS = "\u200c\u200d"  # invisible, but they change the shape of the letters next to them


class ClassLabel(NamedTuple):
    """The text that is drawn for a class, and the font for it."""

    text: str
    font: str  # path of a font that can draw the text; see `default_font`


def class_labels(names: Sequence[str], font: str | Path | None = None) -> list[ClassLabel]:
    """Choose text and font for each class name.

    A name that `font` cannot draw is drawn in DejaVu Sans. Characters that DejaVu Sans does not have either are
    replaced by U+FFFD, and one warning says how many names are affected.

    Raises:
        InputError: `font` is not a font file.
    """
    labels, incomplete = [], []
    for name in names:
        text = _clean(name)
        if font is not None and drawable(text, font) == text:
            labels.append(ClassLabel(text, str(font)))
            continue
        labels.append(ClassLabel(drawable(text), default_font()))
        if labels[-1].text != text:
            incomplete.append(name)
    if incomplete:
        warn(
            f"the font lacks characters of {len(incomplete)} of {len(names)} class names (the first: "
            f"{incomplete[0]!r}); test.py --font FILE draws them with another font, for example Noto Sans CJK"
        )
    return labels


def check_font(path: str | Path) -> None:
    """Check that Pillow can load a font.

    Raises:
        InputError: `path` does not exist or is not a font file.
    """
    try:
        Path(path).open("rb").close()
        load_font(str(path), 20)  # Pillow refuses bitmap fonts, which have only one size
    except OSError as error:
        reason = f"cannot read: {error.strerror}" if error.strerror else "expected a TrueType or OpenType font"
        raise InputError(f"{path}: {reason}") from error


def drawable(text: str, font: str | Path | None = None) -> str:
    """Replace the characters of `text` that `font` (default: DejaVu Sans) cannot draw by U+FFFD.

    Raises:
        InputError: `font` is not a font file.
    """
    if text.isascii() and text.isprintable() and not font:
        return text
    known = _characters(str(font or default_font()))
    return "".join(c if ord(c) in known and (_has_layout() or not _needs_layout(c)) else _REPLACEMENT for c in text)


@functools.lru_cache(maxsize=256)
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a font for Pillow; `size` is in pixels. An empty path is Pillow's own font."""
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@functools.cache
def default_font() -> str:
    """Return the path of DejaVu Sans, or an empty text, which stands for Pillow's own font, without matplotlib."""
    package = importlib.util.find_spec("matplotlib")  # not imported: that takes longer than detecting in an image
    if package is None:
        return ""
    font = Path("fonts", "ttf", "DejaVuSans.ttf")
    path = Path(package.origin).parent / "mpl-data" / font
    if not path.is_file():  # some systems keep the data elsewhere
        import matplotlib

        path = Path(matplotlib.get_data_path()) / font
    return str(path)


def _clean(name: str) -> str:
    """Remove invisible characters, collapse white space, and compose letters with their accents."""
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf" or c in _JOINERS)
    return unicodedata.normalize("NFC", " ".join(visible.split())) or _REPLACEMENT


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Return the code points of a font; for Pillow's own font only ASCII."""
    if not path:
        return frozenset(range(32, 127))
    check_font(path)
    FT2Font = require("matplotlib.ft2font", f"{path}: finding out which characters it has").FT2Font
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{path}: expected a TrueType or OpenType font") from error


def _needs_layout(character: str) -> bool:
    """Whether the character changes the order or shape of the text: right-to-left scripts, combining marks."""
    return unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.category(character)[0] == "M"


@functools.cache
def _has_layout() -> bool:
    """Whether Pillow can draw the characters of `_needs_layout`."""
    return bool(features.check("raqm") and features.check("fribidi"))
