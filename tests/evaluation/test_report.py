"""The measured figures as text."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.evaluation.coco import COCO_METRICS, ClassMetrics, CocoMetrics, Curves
from utils.evaluation.report import class_table, figures_table
from utils.text import align_columns, display_width

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


def test_figures_table_has_a_line_a_figure():
    figures = {name: number / 10 for number, name in enumerate(COCO_METRICS)} | {"AR_small": NAN}
    lines = figures_table(figures).split("\n")
    assert [line.split()[0] for line in lines] == list(COCO_METRICS)
    assert lines[0] == "AP         0.0000  average precision, mean over IoU 0.50 to 0.95"
    assert lines[9] == "AR_small        –  AR_max of objects below 32x32 pixels"


@pytest.mark.parametrize(("text", "width"), [("", 0), ("abc", 3), ("größe", 5), ("安全帽", 6), ("e\u0301", 1)])
def test_display_width(text, width):
    assert display_width(text) == width


@given(st.lists(st.lists(st.text("ab 帽é", max_size=6), min_size=3, max_size=3), min_size=1, max_size=5))
def test_right_columns_end_below_each_other(rows):
    rows = [[*row, "|"] for row in rows]
    lines = align_columns(rows, left=(0, 2)).split("\n")
    assert len({display_width(line) for line in lines}) == 1
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(row[0])
        assert "".join(row).replace(" ", "") == line.replace(" ", "")
