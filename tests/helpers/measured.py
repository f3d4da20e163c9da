"""Hand-made and random detections and labels, for tests of the metrics."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from hypothesis import strategies as st

FRAME = (352, 352)


def detections_of(*rows):
    """[n, 6] float32 from rows (x1, y1, x2, y2, score, class)."""
    return np.array(rows, np.float32).reshape(-1, 6)


def labels_of(*rows, frame=FRAME):
    """[m, 5] float32 label lines from rows (x1, y1, x2, y2, class) in pixels of the frame."""
    x1, y1, x2, y2, class_id = np.array(rows, float).reshape(-1, 5).T
    width, height = frame
    columns = (class_id, (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return np.stack(columns, 1).astype(np.float32)


def index_of(labels, sizes=None):
    """The fields of a DatasetIndex that `coco_content` reads; by default all images have the frame's size."""
    sizes = np.full((len(labels), 2), FRAME) if sizes is None else np.asarray(sizes)
    return SimpleNamespace(images=[Path(f"{n}.jpg") for n in range(1, len(labels) + 1)], labels=labels, sizes=sizes)


@st.composite
def measured_sets(draw, classes=3):
    """(detections, labels) of up to six images in FRAME; the detections are shifted labels and stray boxes.

    All scores are different: with equal scores the order, and so the metrics, would be undefined.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images = draw(st.integers(1, 6))
    most = draw(st.integers(0, 12))
    detections, labels = [], []
    scores = iter(rng.permutation(np.arange(1, 2000)) / 2000)
    for _ in range(images):
        count, strays = rng.integers(0, most + 1, 2)
        corners = rng.uniform(0, 250, (count, 2))
        sides = rng.uniform(5, 120, (count, 2))
        class_ids = rng.integers(0, classes, count)
        labels.append(labels_of(*np.column_stack((corners, corners + sides, class_ids))))
        moved = corners + rng.normal(0, 0.15, (count, 2)) * sides
        stray_corners, stray_sides = rng.uniform(0, 250, (strays, 2)), rng.uniform(5, 120, (strays, 2))
        boxes = np.vstack((np.hstack((moved, moved + sides)), np.hstack((stray_corners, stray_corners + stray_sides))))
        # One in four is of another class than its label.
        found = np.where(rng.random(count) < 0.25, rng.integers(0, classes, count), class_ids)
        found = np.concatenate((found, rng.integers(0, classes, strays)))
        kept = rng.random(len(boxes)) < 0.8
        values = sorted((next(scores) for _ in range(kept.sum())), reverse=True)
        order = rng.permutation(np.flatnonzero(kept))
        detections.append(np.column_stack((boxes[order], values, found[order])).astype(np.float32))
    return detections, labels
