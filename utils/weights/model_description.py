"""The description of a model: everything except its tensors that is needed to use it."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from model import MAX_SIZE, SCALES, SIZE_MULTIPLE, STRIDES
from utils.config import DEFAULT_CONF, MAX_ANCHOR, MAX_COUNT, MAX_NAME, Config
from utils.errors import InputError, warn
from utils.postprocess import Anchors
from utils.text import counted, list_names

if TYPE_CHECKING:
    from typing import Self

FORMAT = 1
MAX_ANCHORS = 1000  # per scale


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= MAX_NAME


def is_count(value: object) -> bool:
    """Return whether a value is a whole number from 1 to MAX_COUNT."""
    return type(value) is int and 0 < value <= MAX_COUNT


def is_fraction(value: object) -> bool:
    """Return whether a value is a number from 0 to 1."""
    return type(value) in (int, float) and 0 <= value <= 1


def _is_size(value: object) -> bool:
    return is_count(value) and value % SIZE_MULTIPLE == 0 and value <= MAX_SIZE


def _are_names(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_COUNT and all(map(_is_text, value))


def _are_anchors(scales: list[list[list[float]]]) -> bool:
    return (
        len(scales) == SCALES
        and all(0 < len(scale) == len(scales[0]) <= MAX_ANCHORS for scale in scales)
        and all(len(pair) == 2 and all(0 < side <= MAX_ANCHOR for side in pair) for scale in scales for pair in scale)
    )


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # Python does not print whole numbers of more than 4,300 digits
        return f"an {type(value).__name__}"


@dataclass(frozen=True)
class ModelDescription:
    """Description of a model. Attributes that `Config` also has have the same meaning.

    A weights file has it as the attribute `description` of its state dict, see `utils.weights.checkpoint`.
    """

    path: Path | None  # the file that it was read from, if any
    model_name: str
    class_names: tuple[str, ...]
    width: int
    height: int
    anchors: Anchors
    conf: float  # score threshold to use unless the user gives another one

    # Per entry of a file: the expected value in words, and its check, which returns False or raises TypeError,
    # AttributeError or LookupError for an invalid value.
    CHECKS: ClassVar[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
        "format": (str(FORMAT), lambda value: value == FORMAT),
        "model_name": ("a name", _is_text),
        "names": ("class names", _are_names),
        "width": (f"a multiple of {SIZE_MULTIPLE}, at most {MAX_SIZE}", _is_size),
        "height": (f"a multiple of {SIZE_MULTIPLE}, at most {MAX_SIZE}", _is_size),
        "anchors": (f"{SCALES} lists of (width, height) pairs, equally long", _are_anchors),
        "conf": ("a number from 0 to 1", is_fraction),
    }
    OPTIONAL: ClassVar[Mapping[str, object]] = {"conf": DEFAULT_CONF}  # entries that older files do not have

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the network's input in pixels."""
        return self.width, self.height

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def anchor_num(self) -> int:
        return len(self.anchors[0])

    @classmethod
    def from_config(cls, config: Config | ModelDescription, **entries: object) -> Self:
        """Describe a model of a .data file; `entries` replace its fields, or are additional ones of a subclass."""
        same = ("model_name", "class_names", "width", "height", "anchors", "conf")
        return cls(**{"path": None, **{name: getattr(config, name) for name in same}, **entries})

    def to_dict(self) -> dict[str, object]:
        """Return values that JSON can hold."""
        return {
            "format": FORMAT,
            "model_name": self.model_name,
            "names": list(self.class_names),
            "width": self.width,
            "height": self.height,
            "strides": list(STRIDES),
            "anchors": [[list(pair) for pair in scale] for scale in self.anchors],
            "conf": self.conf,
        }

    @classmethod
    def from_dict(cls, content: object, path: str | Path) -> Self:
        """Check and convert the content of a file; entries that are not in CHECKS are ignored.

        Raises:
            InputError: an entry is missing or wrong. The message names `path` and the entry.
        """
        if not isinstance(content, dict):
            raise InputError(f"{path}: expected the description of a model, got a {type(content).__name__}")
        values = {key: content.get(key, cls.OPTIONAL.get(key)) for key in cls.CHECKS}
        for key, (expected, is_valid) in cls.CHECKS.items():
            try:
                valid = is_valid(values[key])
            except (TypeError, AttributeError, LookupError):
                valid = False
            if not valid:
                raise InputError(f"{path}: {key}: expected {expected}, got {_shown(values[key])}")
        del values["format"]
        values["class_names"] = tuple(values.pop("names"))
        values["anchors"] = tuple(tuple(tuple(map(float, pair)) for pair in scale) for scale in values["anchors"])
        return cls(path=Path(path), **values)

    def differences(self, config: Config | ModelDescription) -> list[str]:
        """Describe the differences because of which this model cannot be used with a .data file, one text for each."""
        found = []
        if self.classes != config.classes:
            found.append(f"{counted(self.classes, 'class', 'classes')}, {config.path} has {config.classes}")
        names, others = self.class_names, config.class_names
        if not found and {*names}.isdisjoint(others):
            found.append(f"the classes {list_names(names)}, {config.path} has {list_names(others)}")
        if names != others and sorted(names) == sorted(others):
            first = next(class_id for class_id, name in enumerate(names) if name != others[class_id])
            found.append(f"class {first} {names[first]!r}, {config.path} has {others[first]!r} there")
        return found

    def check_fits(self, config: Config | ModelDescription) -> None:
        """Check that this model can be used with a .data file, and warn about other anchors, size or class names.

        The model's own anchors are used. Some class names may differ, for example if one was corrected, but not all of
        them, and not their order. Weights may be used at another input size.

        Raises:
            InputError: the classes differ.
        """
        found = self.differences(config)
        if found:
            raise InputError(
                f"{self.path}: was made for {'; '.join(found)}. "
                "Use the .data file of its training; test.py and pytorch2onnx.py need none"
            )
        if self.anchors != config.anchors:
            warn(f"{self.path}: its own anchors are used, {config.path} has others")
        size, other = f"{self.width}x{self.height}", f"{config.width}x{config.height}"
        if size != other:
            warn(f"{self.path}: was made for {size} pixels, {config.path} has {other}")
        for class_id, (name, other) in enumerate(zip(self.class_names, config.class_names, strict=True)):
            if name != other:
                warn(f"{self.path}: class {class_id} is {name!r}, {config.path} names it {other!r}")
                break
