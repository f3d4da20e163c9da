"""Compile the C code for microcontrollers on this machine, and compare its detections with Python's."""

import shutil
import subprocess

import numpy as np
import pytest

from model import STRIDES
from tests.conftest import REPO
from utils.postprocess import Thresholds, detect
from utils.runtimes.exported import split_maps

SOURCE = REPO / "sample" / "microcontroller"
ANCHORS = (((4.5, 7.25), (7.5, 12.5), (12, 20.5)), ((19.5, 31.5), (34.5, 50), (66, 92)))
WIDTH, HEIGHT, CLASSES = 160, 96, 2
# Reads conf, iou and both outputs from standard input, and prints one detection per line.
PROGRAM = """
#include <stdio.h>

#include "decode.h"

static const float anchors[] = {%(anchors)s};
static const char* const names[] = {"mask", "no mask"};
static const yf_model_info model = {%(width)d, %(height)d, %(classes)d, 3, anchors, names, 0.3f, 0.4f};

int main(void) {
    static int8_t stride16[%(large)d], stride32[%(small)d];
    static yf_detection found[%(capacity)d];
    float thresholds[2];
    if (fread(thresholds, sizeof thresholds, 1, stdin) != 1 || fread(stride16, sizeof stride16, 1, stdin) != 1 ||
        fread(stride32, sizeof stride32, 1, stdin) != 1) {
        return 1;
    }
    const int count = yf_decode(&model, stride16, stride32, thresholds[0], thresholds[1], found, %(capacity)d);
    for (int i = 0; i < count; ++i) {
        printf("%%.9g %%.9g %%.9g %%.9g %%.9g %%d\\n", found[i].x1, found[i].y1, found[i].x2, found[i].y2,
               found[i].score, found[i].class_id);
    }
    return 0;
}
"""


def shapes():
    return [(HEIGHT // stride, WIDTH // stride, 15 + CLASSES) for stride in STRIDES]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A function that compiles the program for an array of `capacity` detections."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("decode")

    def build(capacity):
        large, small = map(np.prod, shapes())
        values = {
            "anchors": ", ".join(f"{side}f" for side in np.array(ANCHORS, float).ravel()),
            **{"width": WIDTH, "height": HEIGHT, "classes": CLASSES},
            **{"large": large, "small": small, "capacity": capacity},
        }
        (folder / "main.c").write_text(PROGRAM % values)
        program = folder / f"decode-{capacity}"
        flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-I", SOURCE]
        subprocess.run([compiler, *flags, folder / "main.c", SOURCE / "decode.c", "-o", program], check=True)
        return program

    return build


def run(program, maps, conf, iou):
    content = np.array([conf, iou], np.float32).tobytes() + b"".join(values.tobytes() for values in maps)
    result = subprocess.run([program], input=content, capture_output=True, timeout=600, check=True)
    return np.array([line.split() for line in result.stdout.decode().splitlines()], float).reshape(-1, 6)


def random_maps(seed):
    """Outputs in which a few cells have high objectness, as a network's."""
    random = np.random.default_rng(seed)
    maps = []
    for shape in shapes():
        values = random.integers(-128, 128, shape, np.int8)
        values[..., 12:15] = np.where(random.random((*shape[:2], 3)) < 0.3, values[..., 12:15], -128)
        maps.append(values)
    return maps


def python_detections(maps, conf, iou):
    probabilities = [(values[None].astype(np.float32) + 128) / 256 for values in maps]
    (found,) = detect(split_maps(probabilities, 3), ANCHORS, Thresholds(conf, iou), activated=True)
    return found


@pytest.mark.parametrize(("conf", "iou"), [(0.3, 0.4), (0.05, 0.2), (0.0, 1.0), (0.7, 0.4)])
def test_the_detections_are_those_of_python(build, conf, iou):
    program, count = build(500), 0
    for seed in range(10):
        maps = random_maps(seed)
        expected, found = python_detections(maps, conf, iou), run(program, maps, conf, iou)
        # Equal scores may be in another order.
        order = [np.lexsort((*rows[:, :4].T, rows[:, 5], -rows[:, 4].round(5))) for rows in (expected, found)]
        np.testing.assert_allclose(found[order[1]], expected[order[0]], rtol=1e-4, atol=1e-3)
        assert (np.diff(found[:, 4]) <= 0).all()
        count += len(expected)
    assert count > 10


def test_a_small_array_gets_the_best_detections(build):
    maps = random_maps(0)
    everything = run(build(500), maps, 0.1, 1.0)
    best = run(build(5), maps, 0.1, 1.0)
    assert len(everything) > 5
    np.testing.assert_array_equal(best[:, 4], everything[:5, 4])
    assert len(run(build(1), maps, 0.1, 0.4)) == 1


def test_no_objects(build):
    maps = [np.full(shape, -128, np.int8) for shape in shapes()]
    assert len(run(build(5), maps, 0.0, 0.4)) == 0
