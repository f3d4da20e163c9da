"""The annotations that all readers return, the problems of an import, and the choice of the class names."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from utils.config import read_names
from utils.errors import InputError, warn
from utils.text import counted, shorten


class Box(NamedTuple):
    """One annotated object."""

    class_name: str
    corners: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels; the image spans 0…width and 0…height
    where: str  # file and entry, for messages


class AnnotatedImage(NamedTuple):
    """One annotated image; readers do not check that its file exists."""

    file_names: tuple[str, ...]  # possible paths inside the folder of images, most likely first
    size: tuple[float, float] | None  # annotated width and height in pixels, None if not given
    boxes: list[Box]
    where: str


class Annotations(NamedTuple):
    """One annotated set of images."""

    images: list[AnnotatedImage]
    class_names: tuple[str, ...] | None  # in the order of the class ids; None if the format has no list of classes


@dataclass
class Problems:
    """Entries that an import drops, changes or skips, and decisions that it makes."""

    dropped: list[str] = field(default_factory=list)  # one line per broken entry
    changed: list[str] = field(default_factory=list)  # one line per box or image that is changed
    notes: list[str] = field(default_factory=list)  # one line per decision about a whole set
    skipped: Counter[str] = field(default_factory=Counter)  # {kind of entries that the options exclude: count}

    @property
    def reasons(self) -> str:
        """What was skipped and dropped, as the end of an error message."""
        parts = [f"{count} {kind} skipped" for kind, count in self.skipped.items()]
        if self.dropped:
            parts.append(f"{counted(len(self.dropped), 'entry', 'entries')} dropped, for example {self.dropped[0]}")
        return "".join(f"; {part}" for part in parts)


def distinct_names(names: Sequence[str], path: Path) -> tuple[str, ...]:
    """Make class names unique: a name that occurs again gets a number, with a warning.

    Raises:
        InputError: a name that cannot be a line of a UTF-8 file, see `is_line`.
    """
    distinct, counts, repeated = {}, Counter(), 0
    for class_id, name in enumerate(names):
        if not is_line(name):
            raise InputError(f"{path}: expected class names in UTF-8, got {name!r:.80}")
        new = name
        while new in distinct:
            counts[name] += 1
            new = f"{name} ({counts[name] + 1})"
        if new != name:
            repeated += 1
            first = distinct[name]
            warn(f"{path}: class {class_id} has the name of class {first}, {name!r}; it becomes {new!r}", repeated)
        distinct[new] = class_id
    return tuple(distinct)


def is_line(text: str) -> bool:
    """Return whether a text can be a line of a UTF-8 file: it has no line break, no NUL and no lone surrogate."""
    return text == text.encode("utf-8", "ignore").decode() and not {"\n", "\r", "\0"}.intersection(text)


def choose_classes(sets: dict[str, Annotations], names: Path | None = None) -> tuple[str, ...]:
    """Return the class names of the imported data set, in the order of the class ids.

    Args:
        sets: {"train": …, "val": …}, the training set first, all of the same format.
        names: file of the class names to keep, in its order; without it, the classes that the training set lists,
            or all classes in the order in which they occur, if the format has no list of classes.

    Raises:
        InputError: a class in `names` that no set has, or a listed class that the training set does not have.
    """
    found = {key: annotations.class_names or _occurring_classes(annotations) for key, annotations in sets.items()}
    known = tuple(dict.fromkeys(itertools.chain(*found.values())))
    _warn_about_case(known)
    if names:
        chosen = read_names(names)
        for name in chosen:
            if name not in known:
                raise InputError(f"{names}: class {name!r} is not in the annotations: {_join(known)}")
        return chosen
    if sets["train"].class_names is None:
        return known
    if extra := set(known).difference(found["train"]):
        raise InputError(f"the val set has classes that the train set does not have: {_join(extra)}")
    return sets["train"].class_names


def _occurring_classes(annotations: Annotations) -> Iterable[str]:
    return dict.fromkeys(box.class_name for image in annotations.images for box in image.boxes)


def _warn_about_case(names: Iterable[str]) -> None:
    spellings = {}
    for name in names:
        first = spellings.setdefault(name.casefold(), name)
        if first != name:
            warn(f"the classes {first!r} and {name!r} differ in upper and lower case only")


def _join(names: Iterable[str]) -> str:
    return shorten(", ".join(map(repr, sorted(names))), 200)
