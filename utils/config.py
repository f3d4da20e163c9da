"""The .data file: darknet-style `key=value` lines, read and checked into one frozen dataclass.

    [name]
    model_name=coco
    epochs=300   # a comment

Everything that a script needs to know about a model and its data comes from here.
"""

import difflib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from model import SCALES, SIZE_MULTIPLE
from utils.errors import InputError, warn
from utils.files import find_path, read_text


@dataclass(frozen=True)
class Config:
    """A checked .data file.

    `anchors` is [SCALES][anchor_num] of (width, height) in input pixels, stride 16 first.
    `train` and `val` are where the lists would be; whether they exist is checked by who opens them.
    """

    path: Path
    model_name: str
    epochs: int
    steps: tuple[int, ...]
    batch_size: int
    subdivisions: int
    learning_rate: float
    pre_weights: str | None
    classes: int
    width: int
    height: int
    anchor_num: int
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    train: Path | None
    val: Path | None
    names: Path
    class_names: tuple[str, ...]


def read_config(path):
    """Read and check a .data file.

    Unknown keys are warned about, with the nearest known key.

    Raises:
        InputError: naming file, line, key, what was read and what was expected.
    """
    path = Path(path)
    entries = _read_entries(path)
    values = {key: _parse(path, key, *entries[key]) for key in entries}
    values.setdefault("pre_weights", None)
    missing = [key for key in _PARSERS if key not in values]
    if missing:
        raise InputError(f"{path}: missing key {', '.join(repr(key) for key in missing)}")

    def fail(key, expected):
        line, text = entries[key]
        raise InputError(f"{path}:{line}: {key}: expected {expected}, got {text!r}")

    for key in ("width", "height"):
        if values[key] % SIZE_MULTIPLE:
            fail(key, f"a multiple of {SIZE_MULTIPLE}")
    if values["batch_size"] % values["subdivisions"]:
        fail("batch_size", f"a multiple of subdivisions ({values['subdivisions']})")
    count = SCALES * values["anchor_num"] * 2
    if len(values["anchors"]) != count:
        fail(
            "anchors",
            f"{count} numbers ({SCALES} scales x anchor_num {values['anchor_num']} x width,height), "
            f"found {len(values['anchors'])}",
        )

    folders = (Path(), path.parent)
    for key in ("train", "val", "names"):
        if values[key] is not None:
            values[key] = find_path(values[key], folders)
    if values["names"] is None or not os.path.exists(values["names"]):
        fail("names", f"a file, one class name a line, in the working directory or in {path.parent}")
    class_names = read_names(values["names"])
    if len(class_names) != values["classes"]:
        fail("classes", f"{len(class_names)}, the number of lines in {values['names']}")

    pairs = tuple(zip(values["anchors"][0::2], values["anchors"][1::2], strict=True))
    per_scale = values["anchor_num"]
    values["anchors"] = tuple(pairs[scale * per_scale : (scale + 1) * per_scale] for scale in range(SCALES))
    return Config(path=path, class_names=class_names, **values)


def read_names(path):
    """Class names, one a line; blank lines at the end do not count.

    Raises:
        InputError: no names, or a blank line between names.
    """
    names = [line.strip() for line in read_text(path).rstrip().split("\n")]
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path}:{number}: expected a class name, got a blank line")
    return tuple(names)


def _read_entries(path):
    """{key: (line number, text of the value)} in the order of the file."""
    entries = {}
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.strip()
        if not line or line[0] in "#[":
            continue
        key, separator, text = line.partition("=")
        key = key.strip()
        if not separator:
            raise InputError(f"{path}:{number}: expected key=value, got {line!r}")
        if key not in _PARSERS:
            near = difflib.get_close_matches(key, _PARSERS, n=1, cutoff=0)[0] if key else "model_name"
            warn(f"{path}:{number}: unknown key {key!r} ignored; the nearest known key is {near!r}")
            continue
        if key in entries:
            raise InputError(f"{path}:{number}: {key}: second entry, the first is on line {entries[key][0]}")
        entries[key] = (number, _strip_comment(key, text).strip())
    return entries


def _strip_comment(key, text):
    """A path may hold '#', so in text values a comment needs a blank before it; in numbers it does not."""
    if _PARSERS[key] not in (_parse_text, _parse_optional_text):
        return text.split("#", 1)[0]
    for position, character in enumerate(text):
        if character == "#" and (position == 0 or text[position - 1].isspace()):
            return text[:position]
    return text


def _parse(path, key, line, text):
    try:
        return _PARSERS[key](text)
    except ValueError as error:
        raise InputError(f"{path}:{line}: {key}: expected {error}, got {text!r}") from None


# Each parser raises ValueError with what it expected.


def _parse_text(text):
    if not text:
        raise ValueError("a value")
    return text


def _parse_optional_text(text):
    return None if text in ("", "None") else text


def _parse_count(text):
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ValueError("a whole number of 1 or more")
    return value


def _parse_rate(text):
    value = _to_float(text)
    if not value > 0:
        raise ValueError("a number above 0")
    return value


def _parse_steps(text):
    """Epochs, whole numbers; the original read them as floats, so `150.0` is one too."""
    if text in ("", "None"):
        return ()
    values = [_to_float(item) for item in text.split(",")]
    if not all(value >= 0 and value == int(value) for value in values):
        raise ValueError("epochs, whole numbers with commas between")
    return tuple(int(value) for value in values)


def _parse_anchors(text):
    values = tuple(_to_float(item) for item in text.split(","))
    if not all(value > 0 for value in values):
        raise ValueError("numbers above 0 with commas between")
    return values


def _to_float(text):
    """A finite float, or NaN, which passes no comparison and so no check."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


_PARSERS = {
    "model_name": _parse_text,
    "epochs": _parse_count,
    "steps": _parse_steps,
    "batch_size": _parse_count,
    "subdivisions": _parse_count,
    "learning_rate": _parse_rate,
    "pre_weights": _parse_optional_text,
    "classes": _parse_count,
    "width": _parse_count,
    "height": _parse_count,
    "anchor_num": _parse_count,
    "anchors": _parse_anchors,
    "train": _parse_optional_text,
    "val": _parse_optional_text,
    "names": _parse_optional_text,
}
