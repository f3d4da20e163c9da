"""Ranges of activations, and where int8 clips them."""

import numpy as np
import pytest
from PIL import Image

from tests.helpers.dataset_files import write_image
from utils.errors import InputError
from utils.export.calibration import BINS, LEVELS, Histogram, observe, read_calibration


def histogram_of(values):
    values = np.asarray(values, float)
    histogram = Histogram(float(values.min()), float(values.max()))
    histogram.add(values)
    return histogram


def squared_error(values, limit):
    step = limit / LEVELS
    return ((np.clip(np.round(values / step), -LEVELS, LEVELS) * step - values) ** 2).mean()


def test_uniform_values_are_not_clipped():
    assert histogram_of(np.linspace(-1, 1, 100_001)).clip_limit() == pytest.approx(1, abs=0.02)


def test_a_long_tail_is_clipped():
    values = np.random.default_rng(0).laplace(size=200_000)
    histogram = histogram_of(values)
    assert histogram.clip_limit() < histogram.largest * 0.9


@pytest.mark.parametrize("draw", ["laplace", "normal", "exponential"])
def test_no_other_limit_has_less_squared_error(draw):
    values = getattr(np.random.default_rng(1), draw)(size=100_000)
    histogram = histogram_of(values)
    best = min(squared_error(values, histogram.largest * share) for share in np.linspace(0.05, 1, 96))
    assert squared_error(values, histogram.clip_limit()) < best * 1.02


def test_zeros_do_not_count():
    values = np.random.default_rng(0).exponential(size=50_000)
    with_zeros = histogram_of(np.concatenate((values, np.zeros(10**6))))
    assert with_zeros.clip_limit() == pytest.approx(histogram_of(values).clip_limit(), rel=0.03)


def test_only_zeros():
    assert histogram_of(np.zeros(10)).clip_limit() == 1


def test_observe_uses_all_images():
    images = [np.array([1.0, -5.0]), np.array([3.0, 0.0])]
    first, second = observe(lambda image: (image, image * 10), images)
    assert (first.lowest, first.highest) == (-5, 3)
    assert (second.lowest, second.highest) == (-50, 30)
    assert first.counts.sum() == second.counts.sum() == 4
    assert first.counts[-1] == 1
    assert len(first.counts) == BINS


def test_calibration_images_have_the_input_size(tmp_path):
    for index in range(3):
        write_image(tmp_path / f"{index}.png", seed=index)
    (tmp_path / "list.txt").write_text("0.png\n1.png\n2.png\n")
    images = read_calibration(tmp_path / "list.txt", 2, (96, 64))
    assert [image.shape for image in images] == [(64, 96, 3)] * 2


def test_bad_calibration_lists(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match=r"empty.txt: expected"):
        read_calibration(tmp_path / "empty.txt", 8, (96, 64))
    with pytest.raises(InputError, match=r"--calib: expected a list"):
        read_calibration(None, 8, (96, 64))
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


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def test_no_other_limit_has_less_squared_error_after_a_sigmoid():
    values = np.random.default_rng(2).normal(-6, 4, 100_000)
    histogram = histogram_of(values)

    def error(limit):
        low, high = max(values.min(), -limit), min(values.max(), limit)
        step = (high - low) / 255
        rounded = low + np.round((np.clip(values, low, high) - low) / step) * step
        return ((sigmoid(rounded) - sigmoid(values)) ** 2).mean()

    best = min(error(histogram.largest * share) for share in np.linspace(0.05, 1, 96))
    assert error(histogram.sigmoid_clip_limit()) < best * 1.05
    # Large negative logits, which most predictions have, are the probability 0 in any case.
    assert histogram.sigmoid_clip_limit() < histogram.clip_limit()
