"""What weights say about the run that made them."""

import math
from functools import partial
from types import SimpleNamespace

from utils.evaluation.coco import ClassMetrics
from utils.training.run_description import describe_thresholds


def evaluated(overall, **thresholds):
    """What describe_thresholds reads of an evaluation."""
    row = partial(ClassMetrics, images=1, labels=1, ap=0, ap50=0, f1=0)
    classes = tuple(row(name, threshold=value) for name, value in thresholds.items())
    return SimpleNamespace(coco=SimpleNamespace(overall=row("all", threshold=overall), classes=classes))


def test_the_thresholds_with_the_best_f1_are_described():
    description = {"conf": 0.3, "training": {"seed": 1}}
    found = describe_thresholds(description, evaluated(0.41, cat=0.2, dog=math.nan))
    assert found == {"conf": 0.41, "training": {"seed": 1, "class thresholds": {"cat": 0.2}}}
    # A detector that finds nothing has no threshold.
    assert describe_thresholds(description, evaluated(math.nan, cat=math.nan))["conf"] == 0.3
