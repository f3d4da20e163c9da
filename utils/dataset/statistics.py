"""Counts over a dataset index, and the warnings that follow from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.anchors import MATCH_RATIO, box_sizes
from utils.boxes import side_ratio
from utils.dataset.index import DatasetIndex
from utils.errors import warn

# The network's first two layers halve the image twice, so a side below this is less than a pixel of what follows.
MIN_VISIBLE = 4  # pixels at network size
FEW_BOXES = {"train": 100, "val": 20}  # a class with fewer is hardly learnt, or its AP is mostly chance
NOTABLE = 0.01  # share of the boxes from which a doubt about them is a warning
ERROR, WARNING = "error", "warning"
_WARNED = 160  # characters of a warning's list
_FATE = {"train": "left out", "val": "taken as black, so that their objects count as missed"}


class Finding(NamedTuple):
    """One kind of thing that is wrong."""

    level: str  # ERROR or WARNING
    kind: str
    items: list[str]  # a line each


@dataclass(frozen=True)
class SetFacts:
    """One list of images, and what was counted in it. Sizes of boxes are in pixels at network size."""

    source: Path
    index: DatasetIndex
    missing_labels: list[Path]  # images without label file
    empty_labels: int  # label files without objects
    class_boxes: np.ndarray  # [classes] boxes of each class
    class_images: np.ndarray  # [classes] images with boxes of each class
    sizes: np.ndarray  # [boxes, 2] widths and heights
    too_small: np.ndarray  # [boxes] bool, a side below MIN_VISIBLE
    unmatched: np.ndarray  # [boxes] bool, no anchor matches


def count(index, missing_labels, empty_labels, config):
    """SetFacts of an index; the other arguments are as there."""
    class_of_box = [rows[:, 0].astype(np.int64) for rows in index.labels]
    sizes = box_sizes(index.labels, config.width, config.height)
    return SetFacts(
        source=index.source,
        index=index,
        missing_labels=missing_labels,
        empty_labels=empty_labels,
        class_boxes=_bincount(class_of_box, config.classes),
        class_images=_bincount([np.unique(numbers) for numbers in class_of_box], config.classes),
        sizes=sizes,
        too_small=(sizes < MIN_VISIBLE).any(1),
        unmatched=~(side_ratio(sizes, np.array(config.anchors).reshape(-1, 2)) < MATCH_RATIO).any(1),
    )


def _bincount(arrays, length):
    return np.bincount(np.concatenate([np.empty(0, np.int64), *arrays]), minlength=length)


def doubts(key, facts, config):
    """What may be right but often is not: list of Finding, all warnings.

    Args:
        key: "train" or "val".
        facts: SetFacts.
        config: Config.
    """
    names = config.class_names
    boxes = len(facts.sizes)
    none = [names[number] for number in np.flatnonzero(facts.class_boxes == 0)]
    few = np.flatnonzero((facts.class_boxes > 0) & (facts.class_boxes < FEW_BOXES[key]))
    repeated = [
        f"{path}: {extra} box{'es' if extra > 1 else ''} more than once"
        for path, rows in zip(facts.index.images, facts.index.labels, strict=True)
        if (extra := len(rows) - len(np.unique(rows, axis=0)))
    ]
    doubtful = []
    for mask, what in (
        (facts.too_small, f"smaller than {MIN_VISIBLE} pixels at network size, too small to be seen"),
        (facts.unmatched, "not near any anchor in shape; genanchors.py finds anchors for a data set"),
    ):
        if mask.sum() > NOTABLE * boxes:
            doubtful.append(f"{mask.sum()} of {boxes} boxes ({mask.mean():.1%}) are {what}")
    converted = [
        f"{number} label lines are {what}"
        for number, what in (
            (facts.index.polygons, "polygons; their bounding boxes are used"),
            (facts.index.scores, "boxes with a score; the score is not used"),
        )
        if number
    ]
    return [
        Finding(WARNING, f"{key}: classes without boxes", [", ".join(none)] if none else []),
        Finding(
            WARNING,
            f"{key}: classes with fewer than {FEW_BOXES[key]} boxes",
            [", ".join(f"{names[number]} {facts.class_boxes[number]}" for number in few)] if len(few) else [],
        ),
        Finding(WARNING, f"{key}: same line twice in a label file", repeated),
        Finding(WARNING, f"{key}: boxes", doubtful),
        Finding(WARNING, f"{key}: label lines", converted),
    ]


def warn_of_doubts(key, index, config):
    """Warn of what tools/check_dataset.py would, as far as it is known without unpacking images.

    Args:
        key: "train" or "val".
        index: DatasetIndex.
        config: Config.
    """
    facts = count(index, [], 0, config)
    for finding in doubts(key, facts, config):
        if finding.items and not finding.kind.endswith("label lines"):  # of those load_index has spoken
            more = f" (and {len(finding.items) - 1} more such lines)" if len(finding.items) > 1 else ""
            text = finding.items[0]
            warn(f"{finding.kind}: {text[:_WARNED]}{'…' if len(text) > _WARNED else ''}{more}")
    outside = np.count_nonzero((index.sizes == 0).any(1))
    if outside:
        warn(f"{key}: {outside} of {len(index)} files are no images; they are {_FATE[key]}")
