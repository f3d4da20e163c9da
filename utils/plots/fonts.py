"""Fonts for class names: a TrueType font of this machine that has every character of a text.

DejaVu Sans, which comes with matplotlib, has Latin, Greek, Cyrillic and more. Other scripts need a font of the system
(Noto Sans CJK, WenQuanYi, Microsoft YaHei …) or one that the user names.
"""

import functools
import unicodedata
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont, features

from utils.errors import InputError, warn

# In names of files: these draw a box or nothing for every character and so "have" all of them.
_PLACEHOLDERS = ("lastresort", "adobeblank")
# The more of these a file's name has, the less its face suits a label.
_STYLES = ("serif", "mono", "italic", "oblique", "bold", "black", "light", "thin", "condensed")
_TRIAL_SIZE = 20


class ClassLabel(NamedTuple):
    """What is drawn for a class."""

    text: str
    font: str  # path of a font that has every character of the text


def class_labels(names, font=None):
    """A label for each class: its name, or "class N" when no font of this machine has the name's characters.

    How many names those are is said in one warning.

    Args:
        names: class names, in order.
        font: path of a font that is tried first, or None.
    Returns:
        list of ClassLabel.
    Raises:
        InputError: `font` is no font.
    """
    if font is not None and not _can_draw(font):
        raise InputError(f"{font}: expected a TrueType or OpenType font")
    labels, missing = [], []
    for number, name in enumerate(names):
        text = _clean(name)
        path = find_font(text, font)
        if path is None:
            missing.append(name)
            text, path = f"class {number}", default_font()
        labels.append(ClassLabel(text, path))
    if missing:
        warn(
            f"no font of this machine can draw {len(missing)} of {len(names)} class names (the first: {missing[0]!r}), "
            'so their labels are "class N"; install one, for example Noto Sans CJK, or give one with --font'
        )
    return labels


def find_font(text, first=None):
    """Path of a font that has every character of `text`, or None.

    Args:
        first: path of a font that is tried before DejaVu Sans and the system's fonts, or None.
    """
    wanted = frozenset(ord(character) for character in text if not _is_invisible(character))
    if not wanted or (_needs_layout(text) and not _has_layout()):
        return None
    for path in (first, default_font()):
        if path is not None and wanted <= _characters(path):
            return str(path)
    return next((path for path in system_fonts() if wanted <= _characters(path) and _can_draw(path)), None)


@functools.cache
def default_font():
    """Path of DejaVu Sans."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


@functools.cache
def system_fonts():
    """Paths of the system's fonts, those that suit a label best first."""
    from matplotlib.font_manager import findSystemFonts

    paths = [path for path in findSystemFonts() if not _file_name(path).startswith(_PLACEHOLDERS)]
    return sorted(paths, key=lambda path: (sum(style in _file_name(path) for style in _STYLES), path))


def _clean(name):
    # One character instead of a letter and an accent: more fonts have it.
    return unicodedata.normalize("NFC", " ".join(name.split()))


def _file_name(path):
    return Path(path).name.lower()


@functools.cache
def _characters(path):
    """Code points that a font has."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError, ValueError):  # a damaged font, or a kind that FreeType does not know
        return frozenset()


def _can_draw(path):
    # Fonts of coloured bitmaps have one size only, and PIL refuses all others.
    try:
        ImageFont.truetype(str(path), _TRIAL_SIZE)
    except (OSError, ValueError):
        return False
    return True


def _is_invisible(character):
    return character.isspace() or unicodedata.category(character) == "Cf"


def _needs_layout(text):
    """Whether letters change their order or shape in the text: right-to-left scripts, marks on letters."""
    return any(
        unicodedata.bidirectional(character) in ("R", "AL") or unicodedata.category(character)[0] == "M"
        for character in text
    )


def _has_layout():
    return bool(features.check("raqm") and features.check("fribidi"))
