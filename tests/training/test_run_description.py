"""What weights say about the run that made them."""

import contextlib
import copy
import math
from functools import partial
from types import SimpleNamespace

import pytest

from tests.helpers.training_files import write_shapes
from utils.dataset.index import open_list
from utils.errors import InputError
from utils.evaluation.coco import ClassMetrics
from utils.training.run_description import check_unchanged, describe_model, describe_thresholds
from utils.training.settings import TrainOptions, read_settings


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


@pytest.mark.parametrize(("recipe", "same"), [("original", True), ("default", False)])
def test_values_that_recipes_did_not_have_yet_had_their_default(tmp_path, recipe, same):
    settings = read_settings(TrainOptions(data=str(write_shapes(tmp_path)), recipe=recipe))
    now = describe_model(settings, open_list(settings.config, "train"))
    before = copy.deepcopy(now)
    del before["training"]["recipe values"]["focal_power"]
    saved = {"model": SimpleNamespace(description=before), "path": "weights/small-last.pth"}
    refused = pytest.raises(InputError, match=r"focal_power was 0\.0 .* 1\.0 now")
    with contextlib.nullcontext() if same else refused:
        check_unchanged(saved, now)


def test_values_that_recipes_no_longer_have_do_not_prevent_a_resume(tmp_path):
    settings = read_settings(TrainOptions(data=str(write_shapes(tmp_path))))
    now = describe_model(settings, open_list(settings.config, "train"))
    before = copy.deepcopy(now)
    before["training"]["recipe values"].update(drop_last=True, step_factor=0.1)
    saved = {"model": SimpleNamespace(description=before), "path": "weights/small-last.pth"}
    check_unchanged(saved, now)
    before["training"]["recipe values"]["momentum"] = 0.5
    with pytest.raises(InputError, match=r"recipe values: momentum was 0\.5 .* 0\.9 now"):
        check_unchanged(saved, now)
