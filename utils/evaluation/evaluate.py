"""Compute the original repository's metrics and the COCO metrics from the same detections."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.config import Config
from utils.dataset.coco_json import category_ids, coco_content, image_ids
from utils.dataset.index import DatasetIndex
from utils.errors import warn
from utils.evaluation.coco import CocoMetrics, coco_metrics, coco_results
from utils.evaluation.original import OPERATING_CONF, OriginalMetrics, original_metrics
from utils.machine import without_garbage_collection

MIN_PRECISION = 0.05  # at OPERATING_CONF; detectors that find anything have more
MIN_DETECTIONS = 0.1  # of the labels; with fewer, precision says nothing


@dataclass(frozen=True)
class Evaluation:
    """The detections of one pass over a data set and their metrics."""

    detections: list[np.ndarray]  # per image [n, 6], (x1, y1, x2, y2, score, class) in network input pixels
    results: list[dict]  # the same in COCO's results format, in image pixels
    original: OriginalMetrics
    coco: CocoMetrics


@without_garbage_collection()
def compute_metrics(
    detections: list[np.ndarray],
    index: DatasetIndex,
    config: Config,
    by_size: bool = True,
) -> Evaluation:
    """Compute all metrics from the detections of a data set.

    Args:
        detections: from `detect_images` or `collect_detections`, in the order of the index.
        by_size: as for `coco_metrics`.
    """
    frame_size = config.size
    # A file that is not an image has no size. Its labels still count, as false negatives.
    index = dataclasses.replace(index, sizes=np.where(index.sizes > 0, index.sizes, frame_size))
    ids = image_ids(index.images), category_ids(config.class_names)
    results = coco_results(detections, *ids, frame_size, index.sizes)
    truth = coco_content(index, config.class_names, index.source.parent)
    return Evaluation(
        detections=detections,
        results=results,
        original=original_metrics(detections, index.labels, frame_size),
        coco=coco_metrics(results, truth, by_size=by_size),
    )


def warn_about_mismatch(evaluation: Evaluation, index: DatasetIndex, weights: str, data: Path) -> None:
    """Warn if many detections have a high score but hardly any matches a label: the weights need other anchors.

    Weights without a description do not say which anchors and classes they were trained with.
    """
    confident = sum(int((rows[:, 4] > OPERATING_CONF).sum()) for rows in evaluation.detections)
    labels = sum(map(len, index.labels))
    if evaluation.original.precision < MIN_PRECISION and confident > MIN_DETECTIONS * labels:
        warn(
            f"{weights}: {confident} detections score above {OPERATING_CONF:g}, but the mean precision of the classes "
            f"is only {evaluation.original.precision:.3f}; were these weights trained with the anchors and classes of "
            f"{data}?"
        )
