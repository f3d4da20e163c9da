"""utils.evaluation.report: the tables, and what metrics.json says about the model."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from utils.evaluation.coco import COCO_METRICS, ClassMetrics, CocoMetrics, Curves
from utils.evaluation.evaluate import Evaluation
from utils.evaluation.original import OriginalMetrics
from utils.evaluation.report import class_table, metrics_content, summary_table
from utils.provenance import file_hash

NAN = math.nan


def coco_of(*rows):
    curves = Curves(np.empty(0), np.empty((len(rows), 0)), np.empty(0), np.empty((len(rows), 0)))
    overall = ClassMetrics("all", 40, 123, 0.25, 0.5, 0.6, 0.305)
    return CocoMetrics(dict.fromkeys(COCO_METRICS, 0.5), overall, rows, curves)


def test_class_table():
    rows = (
        ClassMetrics("cat", 3, 7, 0.12345, 1.0, 2 / 3, 0.25),
        ClassMetrics("no mask", 0, 0, NAN, NAN, NAN, NAN),
        ClassMetrics("安全帽", 1, 2, 0.0, 0.0, 0.0, NAN),
    )
    assert class_table(coco_of(*rows)).split("\n") == [
        "class    images  labels      AP    AP50  best F1  at score",
        "cat           3       7  0.1235  1.0000   0.6667     0.250",
        "no mask       0       0       –       –        –         –",
        "安全帽        1       2  0.0000  0.0000   0.0000         –",
        "all          40     123  0.2500  0.5000   0.6000     0.305",
    ]


def test_summary_table_has_one_line_per_metric():
    summary = {name: position / 10 for position, name in enumerate(COCO_METRICS)} | {"AR_small": NAN}
    lines = summary_table(summary).split("\n")
    assert [line.split()[0] for line in lines] == list(COCO_METRICS)
    assert lines[0].startswith("AP         0.0000  average precision")
    assert lines[9].startswith("AR_small        –  AR_max")


class Images(list):
    source = "val.txt"


@pytest.mark.parametrize(("name", "hashed"), [("m.ncnn.param", "m.ncnn.bin"), ("m.onnx", "m.onnx")])
def test_the_hash_is_that_of_the_file_with_the_weights(tmp_path, name, hashed):
    """Two trainings of one network have equal .param files."""
    for suffix in (".ncnn.param", ".ncnn.bin", ".onnx"):
        (tmp_path / f"m{suffix}").write_text(suffix)
    config = SimpleNamespace(path="small.data", width=96, height=64)
    evaluation = Evaluation([], [], OriginalMetrics(0, 0, 0, 0), coco_of())
    content = metrics_content(evaluation, Images(), config, str(tmp_path / name), "cpu", {})
    assert content["made_with"]["weights_sha256"] == file_hash(tmp_path / hashed)
