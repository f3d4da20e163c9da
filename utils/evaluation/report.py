"""The measured figures as text: the twelve COCO figures and the table a class."""

import math

from utils.evaluation.coco import COCO_METRICS
from utils.text import align_columns

UNDEFINED = "–"  # a figure that does not exist, such as the AP of a class without labels


def figures_table(figures):
    """The twelve COCO figures, a line each: name, value, meaning.

    Args:
        figures: dict, `CocoMetrics.figures`.
    """
    return align_columns(
        [[name, _decimal(figures[name], 4), meaning] for name, meaning in COCO_METRICS.items()], left=(0, 2)
    )


def class_table(coco):
    """A line a class and one for all: images, labels, AP, AP50, the best F1 and the score threshold that gives it.

    Args:
        coco: CocoMetrics.
    """
    rows = [["class", "images", "labels", "AP", "AP50", "best F1", "at score"]]
    for row in (*coco.classes, coco.overall):
        values = [_decimal(value, 4) for value in (row.ap, row.ap50, row.f1)]
        rows.append([row.name, str(row.images), str(row.labels), *values, _decimal(row.threshold, 3)])
    return align_columns(rows)


def _decimal(value, places):
    return UNDEFINED if math.isnan(value) else f"{value:.{places}f}"
