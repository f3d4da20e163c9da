"""The .data file: darknet-style `key=value` lines, read and checked into one frozen dataclass.

[name]
model_name=coco
epochs=300   # a comment
"""

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from model import MAX_SIZE, SCALES, SIZE_MULTIPLE
from utils.errors import InputError, warn
from utils.files import find_path, read_text
from utils.text import shorten

# Larger values are mistakes; they would exhaust the memory or overflow.
MAX_COUNT = 1_000_000
MAX_RATE = 1000.0  # learning rate
MAX_NAME = 1000  # characters of a class name
MAX_ANCHOR = 10 * MAX_SIZE  # pixels

DEFAULT_CONF = 0.3  # score threshold of models that do not contain their own
DEFAULT_IOU = 0.4
MAX_DETECTIONS = 300  # per image, as in the original
EVAL_CONF = 0.01  # low, so that the precision-recall curves are complete

MODEL_NAME = re.compile(r"\w[\w.-]{0,99}")

ANCHOR_HINT = "python3 genanchors.py --traintxt LIST finds anchors"
_SHOWN = 80  # characters of a line in a message


@dataclass(frozen=True)
class Config:
    """A checked .data file."""

    path: Path
    model_name: str
    epochs: int
    steps: tuple[int, ...]  # epochs after which the schedule "steps" lowers the learning rate
    batch_size: int  # images per optimizer step
    subdivisions: int  # parts that a batch is split into
    learning_rate: float
    pre_weights: str | None
    classes: int
    width: int  # of the network's input in pixels
    height: int
    anchor_num: int  # per scale
    anchors: tuple[tuple[tuple[float, float], ...], ...]  # [SCALES][anchor_num] (width, height) in input pixels
    train: Path | None  # if it does not exist: a path relative to the .data file, where the synthetic set is drawn
    val: Path | None
    names: Path
    class_names: tuple[str, ...]
    conf: float = DEFAULT_CONF  # not in .data files: the weights contain it

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the network's input in pixels."""
        return self.width, self.height


def read_config(path: Path | str) -> Config:
    """Read and check a .data file. Unknown keys cause a warning that names the nearest known key.

    Raises:
        InputError: a key is missing, or a value is wrong; the message names file, line and key.
    """
    path = Path(path)
    entries = _read_entries(path)

    def fail(key: str, expected: object) -> NoReturn:
        line, text = entries[key]
        raise InputError(f"{path}:{line}: {key}: expected {expected}, got {shorten(text, _SHOWN)!r}")

    values = {"pre_weights": None}
    for key, (_, text) in entries.items():
        try:
            values[key] = _PARSERS[key](text)
        except ValueError as error:
            fail(key, error)
    missing = [key for key in _PARSERS if key not in values]
    if values.keys() <= {"classes", "train", "names", "pre_weights"} and entries:
        raise InputError(
            f"{path}: expected a .data file with anchors and training settings, got one of darknet; "
            f"python3 tools/import_dataset.py {path.parent} --output data/NAME makes a .data file of this data set"
        )
    if missing:
        hint = f"; {ANCHOR_HINT}" if "anchors" in missing else ""
        raise InputError(f"{path}: missing key {', '.join(repr(key) for key in missing)}{hint}")

    for key in ("width", "height"):
        if values[key] % SIZE_MULTIPLE or values[key] > MAX_SIZE:
            fail(key, f"a multiple of {SIZE_MULTIPLE}, at most {MAX_SIZE}")
    if values["batch_size"] % values["subdivisions"]:
        fail("batch_size", f"a multiple of subdivisions ({values['subdivisions']})")
    anchor_num, anchors = values["anchor_num"], values["anchors"]
    count = SCALES * anchor_num * 2
    if len(anchors) != count:
        expected = f"{count} numbers ({SCALES} scales x anchor_num {anchor_num} x width,height)"
        fail("anchors", f"{expected}, found {len(anchors)}; {ANCHOR_HINT}")
    pairs = tuple(zip(anchors[0::2], anchors[1::2], strict=True))
    values["anchors"] = tuple(pairs[scale * anchor_num : (scale + 1) * anchor_num] for scale in range(SCALES))

    for key in ("train", "val", "names"):
        if values[key] is not None:
            found = find_path(values[key], (Path(), path.parent))
            values[key] = found if os.path.exists(found) else find_path(values[key], (path.parent,))
    if values["names"] is None or not os.path.exists(values["names"]):
        fail("names", f"a file with one class name per line, in the working directory or in {path.parent}")
    class_names = read_names(values["names"])
    if len(class_names) != values["classes"]:
        fail("classes", f"{len(class_names)}, because {values['names']} has {len(class_names)} class names")
    return Config(path=path, class_names=class_names, **values)


def read_names(path: Path | str, warn_repeated: bool = True) -> tuple[str, ...]:
    """Read class names, one per line. Blank lines at the end are ignored.

    Args:
        warn_repeated: warn about a name that occurs twice.

    Raises:
        InputError: no names, a blank line between names, or a very long name.
    """
    names = [line.strip() for line in read_text(path).rstrip().split("\n")]
    first_lines, repeated = {}, 0
    for line, name in enumerate(names, 1):
        if not name or "\0" in name:
            got = repr(shorten(name, _SHOWN)) if name else "a blank line"
            raise InputError(f"{path}:{line}: expected a class name, got {got}")
        if len(name) > MAX_NAME:
            raise InputError(
                f"{path}:{line}: expected a class name of at most {MAX_NAME} characters, got {shorten(name, _SHOWN)!r}"
            )
        first = first_lines.setdefault(name, line)
        if first < line and warn_repeated:
            repeated += 1
            warn(f"{path}:{line}: class {line - 1} has the name of class {first - 1}, {name!r}", repeated)
    return tuple(names)


def _read_entries(path: Path) -> dict[str, tuple[int, str]]:
    """Return {key: (line number, text of the value)} in the order of the file."""
    entries, unknown = {}, 0
    for line_number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.strip()
        if not line or line[0] in "#[":
            continue
        key, separator, text = line.partition("=")
        key = key.strip()
        if not separator:
            raise InputError(f"{path}:{line_number}: expected key=value, got {shorten(line, _SHOWN)!r}")
        if key in _DARKNET_KEYS:
            continue
        if key not in _PARSERS:
            unknown += 1
            import difflib

            near = difflib.get_close_matches(key, _PARSERS, n=1)
            hint = f"; the nearest known key is {near[0]!r}" if near else ""
            warn(f"{path}:{line_number}: unknown key {shorten(key, _SHOWN)!r} ignored{hint}", unknown)
            continue
        if key in entries:
            raise InputError(f"{path}:{line_number}: {key}: second entry, the first is on line {entries[key][0]}")
        entries[key] = (line_number, _strip_comment(key, text).strip())
    return entries


def _strip_comment(key: str, text: str) -> str:
    """Remove a comment. A path may contain '#', so in text values a comment starts only after a space."""
    mark = r"(?:^|\s)#" if _PARSERS[key] is _parse_optional_text else "#"
    return re.split(mark, text, maxsplit=1)[0]


# The message of a parser's ValueError completes "expected …".


def _parse_name(text: str) -> str:
    """Parse a name that becomes part of file names."""
    if not MODEL_NAME.fullmatch(text):
        raise ValueError("at most 100 letters, digits, '.', '_' and '-', not beginning with '.' or '-'")
    return text


def _parse_optional_text(text: str) -> str | None:
    return None if text in ("", "None") else text


def _parse_count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:  # not a number, or thousands of digits
        value = 0
    if not 1 <= value <= MAX_COUNT:
        raise ValueError(f"a whole number from 1 to {MAX_COUNT:,}")
    return value


def _parse_rate(text: str) -> float:
    value = _to_float(text)
    if not 0 < value <= MAX_RATE:
        raise ValueError(f"a number above 0, at most {MAX_RATE:g}")
    return value


def _parse_steps(text: str) -> tuple[int, ...]:
    """Parse epochs. The original read them as floats, so `150.0` is valid too."""
    if text in ("", "None"):
        return ()
    values = [_to_float(item) for item in text.split(",")]
    if not all(0 <= value <= MAX_COUNT and value == int(value) for value in values):
        raise ValueError(f"epochs, whole numbers separated by commas, at most {MAX_COUNT:,}")
    return tuple(int(value) for value in values)


def _parse_anchors(text: str) -> tuple[float, ...]:
    values = tuple(_to_float(item) for item in text.split(","))
    if not all(0 < value <= MAX_ANCHOR for value in values):
        raise ValueError(f"numbers above 0 separated by commas, at most {MAX_ANCHOR:,}")
    return values


def _to_float(text: str) -> float:
    """Parse a float; NaN, which fails every comparison, if the text is not a number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


_DARKNET_KEYS = ("valid", "backup", "eval", "results", "top")  # in darknet's .data files; ignored

_PARSERS: dict[str, Callable[[str], object]] = {
    "model_name": _parse_name,
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
