"""Grids of captioned images."""

import numpy as np
import pytest

from utils.dataset.images import read_image
from utils.plots.mosaic import Tile, fit_to_side, save_mosaic


def solid(height, width, value):
    return np.full((height, width, 3), (value, 0, 255), np.uint8)


@pytest.mark.parametrize(("shape", "fitted"), [((50, 100), (32, 64)), ((400, 100), (64, 16)), ((1000, 1), (64, 1))])
def test_the_longer_side_gets_the_given_length(shape, fitted):
    assert fit_to_side(np.zeros((*shape, 3), np.uint8), 64).shape == (*fitted, 3)


def test_tiles_are_placed_row_by_row_and_centered_in_their_column(tmp_path):
    tiles = [Tile(solid(40, 60, 10)), Tile(solid(60, 20, 20)), Tile(solid(30, 60, 30))]
    save_mosaic(tmp_path / "m.png", tiles, columns=2, side=60)
    mosaic = read_image(tmp_path / "m.png")
    gap = 6
    assert mosaic.shape == (3 * gap + 60 + 30, 3 * gap + 2 * 60, 3)
    expected = np.full_like(mosaic, 255)
    expected[gap : gap + 40, gap : gap + 60] = (10, 0, 255)
    expected[gap : gap + 60, 2 * gap + 80 : 2 * gap + 100] = (20, 0, 255)
    expected[2 * gap + 60 : 2 * gap + 90, gap : gap + 60] = (30, 0, 255)
    assert np.array_equal(mosaic, expected)


@pytest.mark.parametrize("caption", ["labels", "猫.jpg", "a\udc80\n.jpg", "a very long file name" * 20])
def test_captions_stay_inside_their_column(tmp_path, caption):
    save_mosaic(tmp_path / "m.png", [Tile(solid(40, 100, 10), caption), Tile(solid(40, 100, 10))], columns=2, side=100)
    dark = (read_image(tmp_path / "m.png") < 100).all(2)
    _, columns = np.nonzero(dark)
    assert 6 <= columns.min() < columns.max() < 106
