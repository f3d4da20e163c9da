"""Annotations as all readers return them, and the choice of the class names."""

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from utils.config import read_names
from utils.errors import InputError


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
    """Entries that an import drops, changes or skips."""

    dropped: list[str] = field(default_factory=list)  # one line per broken entry
    changed: list[str] = field(default_factory=list)  # one line per box that is cut to its image
    skipped: Counter[str] = field(default_factory=Counter)  # {kind of entry that the options exclude: count}

    @property
    def example(self) -> str:
        """The first dropped entry, as the end of an error message."""
        return f", for example {self.dropped[0]}" if self.dropped else ""


def choose_classes(sets: dict[str, Annotations], names: Path | None = None) -> tuple[str, ...]:
    """Return the class names of the imported data set, in the order of the class ids.

    Args:
        sets: {"train": …, "val": …}, the training set first, all of the same format.
        names: file of the class names to keep, in its order; without it, the classes that the training set lists,
            or all classes that occur, sorted, if the format has no list of classes.

    Raises:
        InputError: a class in `names` that no set has, or a listed class that the training set does not have.
    """
    found = {
        key: annotations.class_names or {box.class_name for image in annotations.images for box in image.boxes}
        for key, annotations in sets.items()
    }
    known = set().union(*found.values())
    if names:
        chosen = read_names(names)
        for name in chosen:
            if name not in known:
                raise InputError(f"{names}: class {name!r} is not in the annotations: {_join(known)}")
        return chosen
    if sets["train"].class_names is None:
        return tuple(sorted(known))
    if extra := known.difference(found["train"]):
        raise InputError(f"the val set has classes that the train set does not have: {_join(extra)}")
    return sets["train"].class_names


def _join(names: set[str]) -> str:
    return textwrap.shorten(", ".join(map(repr, sorted(names))), 200, placeholder=" …")
