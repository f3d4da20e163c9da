"""Both definitions' metrics from the detections of a data set."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from utils.dataset.coco import coco_content, image_ids
from utils.evaluation.coco import COCO_MAX_DET, CocoMetrics, coco_metrics, coco_results
from utils.evaluation.original import OriginalMetrics, original_metrics
from utils.memory import without_collector


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a data set gave."""

    detections: list[np.ndarray]  # an image [n, 6], (x1, y1, x2, y2, score, class) in pixels of the network's frame
    results: list[dict]  # the same in COCO's results format, in pixels of the image
    original: OriginalMetrics
    coco: CocoMetrics


@without_collector()
def measure(detections, index, frame_size, class_names, max_det=COCO_MAX_DET):
    """Both definitions' figures from the detections of a data set.

    Args:
        detections: as from `collect_detections`, in the order of the index.
        index: DatasetIndex.
        frame_size: (width, height) of the network's input.
    Returns:
        Evaluation.
    """
    # What is no image has no size of its own, but its labels count: they are missed.
    index = dataclasses.replace(index, sizes=np.where(index.sizes > 0, index.sizes, frame_size))
    results = coco_results(detections, image_ids(index.images), frame_size, index.sizes)
    truth = coco_content(index, class_names, index.source.parent)
    return Evaluation(
        detections=detections,
        results=results,
        original=original_metrics(detections, index.labels, frame_size),
        coco=coco_metrics(results, truth, max_det),
    )
