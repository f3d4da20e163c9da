"""Train from scratch, evaluate and detect, with the scripts as a user runs them."""

import csv
import json
import os

import cv2
import numpy as np
import pytest

SIZE = 160  # pixels per side of the images and of the network's input
# Measured: 0.97, and 0.00 with untrained weights or if boxes, objectness or classes are not trained.
MIN_AP50 = 0.6
NAMES = ("disc", "square")


def draw_image(rng):
    """A noisy image [SIZE, SIZE, 3] and its label lines: one or two shapes, warm discs and cold squares."""
    image = cv2.resize(rng.integers(60, 120, (SIZE // 8, SIZE // 8, 3), np.uint8), (SIZE, SIZE))
    lines = []
    for half in rng.permutation(2)[: rng.integers(1, 3)].tolist():
        side = int(rng.integers(SIZE // 5, SIZE // 3))
        left = half * SIZE // 2 + int(rng.integers(0, SIZE // 2 - side))
        top = int(rng.integers(0, SIZE - side))
        class_id = int(rng.integers(2))
        bright, dark = int(rng.integers(180, 255)), int(rng.integers(0, 60))
        if class_id == 0:
            center = (left + side // 2, top + side // 2)
            cv2.circle(image, center, side // 2, (dark, dark, bright), -1)
        else:
            cv2.rectangle(image, (left, top), (left + side - 1, top + side - 1), (bright, dark, dark), -1)
        box = ((left + side / 2) / SIZE, (top + side / 2) / SIZE, side / SIZE, side / SIZE)
        lines.append(f"{class_id} " + " ".join(f"{value:.6f}" for value in box))
    return image, lines


def write_data(folder):
    """Write a data set of such images and return the path of its .data file."""
    for split_index, (split, count) in enumerate((("train", 128), ("val", 32))):
        (folder / split).mkdir()
        for index in range(count):
            image, lines = draw_image(np.random.default_rng((split_index, index)))
            path = folder / split / f"{index}.png"
            cv2.imwrite(str(path), image)
            path.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names = "".join(f"{split}/{index}.png\n" for index in range(count))
        (folder / f"{split}.txt").write_text(names, encoding="utf-8")
    (folder / "end.names").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
    lines = {
        **{"model_name": "end", "epochs": 16, "steps": "12,14", "batch_size": 8, "subdivisions": 1},
        **{"learning_rate": 0.005, "pre_weights": "scratch", "classes": 2, "width": SIZE, "height": SIZE},
        **{"anchor_num": 3, "anchors": "34,34, 42,42, 50,50, 34,34, 42,42, 50,50"},
        **{"train": "train.txt", "val": "val.txt", "names": "end.names"},
    }
    path = folder / "end.data"
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    return path


@pytest.mark.slow
def test_training_from_scratch_gives_a_detector(tmp_path, run_script):
    data = write_data(tmp_path)
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    options = ("--workers", 0, "--cache", "ram", "--eval-interval", 4)
    done = run_script("train.py", "--data", data, *options, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "runs/train/end/results.csv").open(encoding="utf-8", newline="") as file:
        best = max(float(row["AP50"]) for row in csv.DictReader(file) if row["AP50"])
    print(f"AP50 {best:.4f}")
    assert best > MIN_AP50

    weights = tmp_path / "weights/end-best.pth"
    arguments = ("--data", data, "--weights", weights)
    done = run_script("evaluation.py", *arguments, "--workers", 0, "--json", "m.json", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["coco"]
    assert metrics["AP50"] == pytest.approx(best, abs=1e-6)

    done = run_script("test.py", *arguments, "--img", tmp_path / "val/0.png", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    labels = (tmp_path / "val/0.txt").read_text(encoding="utf-8").split("\n")
    assert any(name in done.stdout for name in NAMES), (done.stdout, labels)
