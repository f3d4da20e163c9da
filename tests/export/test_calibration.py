"""Ranges of activations, and where they are cut for 8 bits."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.dataset_files import write_picture
from utils.errors import InputError
from utils.export.calibration import BINS, LEVELS, Range, observe, read_calibration


def range_of(values):
    values = np.asarray(values, float)
    found = Range(float(values.min()), float(values.max()))
    found.count(values)
    return found


def squared_error(values, limit):
    step = limit / LEVELS
    return ((np.clip(np.round(values / step), -LEVELS, LEVELS) * step - values) ** 2).mean()


def test_even_values_are_not_cut():
    assert range_of(np.linspace(-1, 1, 100_001)).cut() == pytest.approx(1, abs=0.02)


def test_a_long_tail_is_cut():
    values = np.random.default_rng(0).laplace(size=200_000)
    found = range_of(values)
    assert found.cut() < found.largest * 0.9


@pytest.mark.parametrize("draw", ["laplace", "normal", "exponential"])
def test_no_other_cut_has_less_squared_error(draw):
    values = getattr(np.random.default_rng(1), draw)(size=100_000)
    found = range_of(values)
    best = min(squared_error(values, found.largest * share) for share in np.linspace(0.05, 1, 96))
    assert squared_error(values, found.cut()) < best * 1.02


def test_zeros_do_not_count():
    values = np.random.default_rng(0).exponential(size=50_000)
    assert range_of(np.concatenate((values, np.zeros(10**6)))).cut() == pytest.approx(range_of(values).cut(), rel=0.03)


def test_nothing_but_zeros():
    assert range_of(np.zeros(10)).cut() == 1


def test_observing_goes_over_all_images():
    images = [np.array([1.0, -5.0]), np.array([3.0, 0.0])]
    found = observe(lambda image: (image, image * 10), images, ["a", "b"])
    assert (found["a"].lowest, found["a"].highest) == (-5, 3)
    assert (found["b"].lowest, found["b"].highest) == (-50, 30)
    assert found["a"].counts.sum() == found["b"].counts.sum() == 4
    assert found["a"].counts[-1] == 1
    assert len(found["a"].counts) == BINS


def test_calibration_images_come_at_network_size(tmp_path):
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", seed=number)
    (tmp_path / "list.txt").write_text("0.png\n1.png\n2.png\n")
    images = read_calibration(tmp_path / "list.txt", 2, (96, 64))
    assert [image.shape for image in images] == [(64, 96, 3)] * 2


def test_bad_calibration_lists(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match=r"empty.txt: expected"):
        read_calibration(tmp_path / "empty.txt", 8, (96, 64))
    with pytest.raises(InputError, match=r"gone.txt: "):
        read_calibration(tmp_path / "gone.txt", 8, (96, 64))
    (tmp_path / "broken.txt").write_text("text.png\n")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match=r"text.png: expected an image"):
        read_calibration(tmp_path / "broken.txt", 8, (96, 64))
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "missing.txt").write_text("good.png\ngone.png\n")
    with pytest.raises(InputError, match=r"gone.png"):
        read_calibration(tmp_path / "missing.txt", 8, (96, 64))
