"""Statistics of a dataset index, and warnings about likely mistakes in it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.anchors import MATCH_RATIO, box_sizes, cluster, fit
from utils.boxes import side_ratio
from utils.config import Config
from utils.dataset.index import DatasetIndex
from utils.errors import InputError, warn
from utils.text import list_names, shorten

MIN_VISIBLE = 4  # pixels at input size; the first two layers reduce a smaller side to less than one pixel
MIN_BOXES = {"train": 100, "val": 20}  # per class; with fewer, training or the AP of the class is unreliable
NOTABLE_SHARE = 0.01  # of all boxes; fewer doubtful boxes cause no warning
ERROR, WARNING = "error", "warning"

_ANCHOR_SAMPLE = 2000  # boxes
_HANDLING = {"train": "skipped", "val": "replaced by black images; their objects count as false negatives"}
_MAX_ITEMS = 160  # characters of a warning's list of items


class Finding(NamedTuple):
    """One kind of mistake in a data set, and where it occurs."""

    level: str  # ERROR or WARNING
    kind: str
    items: list[str]  # one line each


@dataclass(frozen=True)
class DatasetStatistics:
    """Counts of a dataset index; box sizes are in pixels at input size."""

    index: DatasetIndex
    class_boxes: np.ndarray  # [classes] boxes per class
    class_images: np.ndarray  # [classes] images with boxes of the class
    sizes: np.ndarray  # [boxes, 2] widths and heights
    too_small: np.ndarray  # [boxes] bool, a side below MIN_VISIBLE
    unmatched: np.ndarray  # [boxes] bool, no anchor matches

    @property
    def empty_labels(self) -> int:
        """Count of the label files that have only white space."""
        files = zip(self.index.label_files, self.index.labels, strict=True)
        return sum(path is not None and not len(labels) and _is_blank(path) for path, labels in files)


def _is_blank(path: str) -> bool:
    try:
        return os.path.getsize(path) < 100 and not Path(path).read_bytes().strip()
    except OSError:
        return False


def compute_statistics(index: DatasetIndex, config: Config) -> DatasetStatistics:
    """Count the boxes of an index, and find those that are too small or match no anchor."""
    class_ids = [labels[:, 0].astype(np.int64) for labels in index.labels]
    sizes = box_sizes(index.labels, config.width, config.height)
    return DatasetStatistics(
        index=index,
        class_boxes=_bincount(class_ids, config.classes),
        class_images=_bincount([np.unique(ids) for ids in class_ids], config.classes),
        sizes=sizes,
        too_small=(sizes < MIN_VISIBLE).any(1),
        unmatched=~(side_ratio(sizes, np.array(config.anchors).reshape(-1, 2)) < MATCH_RATIO).any(1),
    )


def _bincount(arrays: list[np.ndarray], length: int) -> np.ndarray:
    return np.bincount(np.concatenate([np.empty(0, np.int64), *arrays]), minlength=length)


def find_mistakes(key: str, statistics: DatasetStatistics, config: Config) -> list[Finding]:
    """Find data that is valid, but probably a mistake.

    Args:
        key: "train" or "val".

    Returns:
        Warnings; their items may be empty.
    """
    names, index = config.class_names, statistics.index
    boxes = len(statistics.sizes)
    counts = statistics.class_boxes
    without_boxes = [names[class_id] for class_id in np.flatnonzero(counts == 0)]
    is_rare = (counts > 0) & (counts < MIN_BOXES[key])
    rare = [f"{names[class_id]} {counts[class_id]}" for class_id in np.flatnonzero(is_rare)]
    repeated = [
        f"{path}: {extra} box{'es' if extra > 1 else ''} more than once"
        for path, labels in zip(index.images, index.labels, strict=True)
        if (extra := len(labels) - len(np.unique(labels, axis=0)))
    ]
    # Anchors are computed from the training set, so new ones are suggested for this set only.
    unmatched = statistics.unmatched.mean() if boxes else 0
    better = key == "train" and unmatched > NOTABLE_SHARE and _has_better_anchors(statistics, config)
    advice = "; genanchors.py computes new anchors that match more" if better else ""
    doubtful = [
        Finding(WARNING, f"{key}: {kind}", [f"{mask.sum()} of {boxes} boxes ({mask.mean():.1%}) {text}"])
        for kind, mask, text in (
            (
                "boxes too small",
                statistics.too_small,
                f"have a side below {MIN_VISIBLE} pixels at input size",
            ),
            (
                "boxes without anchor",
                statistics.unmatched,
                f"are not within a factor of {MATCH_RATIO:g} of any anchor{advice}",
            ),
        )
        if mask.sum() > NOTABLE_SHARE * boxes
    ]
    return [
        Finding(WARNING, f"{key}: classes without boxes", without_boxes),
        Finding(WARNING, f"{key}: classes with fewer than {MIN_BOXES[key]} boxes", rare),
        Finding(WARNING, f"{key}: same line twice in a label file", repeated),
        *doubtful,
    ]


def _has_better_anchors(statistics: DatasetStatistics, config: Config) -> bool:
    """Whether k-means on a sample of the boxes finds anchors that match clearly more boxes."""
    sizes, current = statistics.sizes, np.array(config.anchors).reshape(-1, 2)
    sample = np.random.default_rng(0).choice(sizes, min(len(sizes), _ANCHOR_SAMPLE), replace=False)
    try:
        anchors = cluster(sample, len(current), restarts=2)
    except InputError:  # too few boxes
        return False
    return fit(sizes, anchors).recall > fit(sizes, current).recall + NOTABLE_SHARE


def warn_about_dataset(key: str, index: DatasetIndex, config: Config) -> None:
    """Warn about everything that tools/check_dataset.py finds without decoding images.

    Args:
        key: "train" or "val".
    """
    for finding in find_mistakes(key, compute_statistics(index, config), config):
        if finding.items:
            warn(f"{finding.kind}: {shorten(list_names(finding.items), _MAX_ITEMS)}")
    invalid = np.count_nonzero((index.sizes == 0).any(1))
    if invalid:
        warn(f"{key}: {invalid} of {len(index)} files are not images; they are {_HANDLING[key]}")
