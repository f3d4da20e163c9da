"""A small data set of shapes, and the files of a training run on it, for tests."""

import csv

import torch

from utils.dataset.shapes import make_shapes

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")  # only their count matters
# For the shapes at 352 pixels.
ANCHORS = "14.31,14.15, 22.97,23.04, 36.61,37.92, 61.52,60.02, 101.51,100.48, 163.10,163.79"
TIMES = ("images_per_second",)  # columns of results.csv that differ between equal runs


def write_shapes(folder, train=24, val=8, size=64, **changes):
    """Draw shapes into `folder`/shapes and write `folder`/small.data; return its path.

    Args:
        train, val: images per list.
        size: input size of the network.
        changes: entries of the .data file that differ from a small, short run.
    """
    if not (folder / "shapes").exists():
        make_shapes(folder / "shapes", train=train, val=val)
    (folder / "small.names").write_text("\n".join(SHAPES) + "\n", encoding="utf-8")
    anchors = ", ".join(f"{float(side) * size / 352:.2f}" for side in ANCHORS.split(","))
    lines = {
        **{"model_name": "small", "epochs": 3, "steps": "2", "batch_size": 4, "subdivisions": 1},
        **{"learning_rate": 0.01, "pre_weights": "scratch", "classes": len(SHAPES), "width": size, "height": size},
        **{"anchor_num": 3, "anchors": anchors, "names": "small.names"},
        **{"train": "shapes/train.txt", "val": "shapes/val.txt", **changes},
    }
    path = folder / "small.data"
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    return path


def results(folder):
    """Rows of a run's results.csv as texts, without the columns of times."""
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return [{key: text for key, text in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def without_times(saved):
    """Content of a `-last.pth` without the values that depend on the clock."""
    progress = {key: value for key, value in saved["progress"].items() if key not in ("seconds", "history")}
    history = [{key: value for key, value in row.items() if key not in TIMES} for row in saved["progress"]["history"]]
    return {**saved, "progress": {**progress, "history": history}}


def assert_equal(first, second, where=""):
    """Check that nested dicts and lists are equal, tensors bit for bit."""
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype, where
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for position, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_equal(one, other, f"{where}/{position}")
    else:
        assert first == second or (first != first and second != second), where  # NaN is equal to NaN
