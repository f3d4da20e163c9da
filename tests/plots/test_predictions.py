"""Images with labels and predictions."""

import cv2
import numpy as np
import pytest

from tests.helpers.measured import detections_of, index_of, labels_of
from utils.plots import predictions as plots
from utils.plots.fonts import class_labels

LABELS = class_labels(["cat", "dog"])
BOX = (10, 10, 200, 200)


@pytest.fixture
def index(tmp_path):
    """20 images with one label each, of which the last is damaged, and one without labels."""
    index = index_of([labels_of((*BOX, 0)) for _ in range(20)] + [labels_of()])
    index.images = [str(tmp_path / f"{number}.png") for number in range(21)]
    for number, path in enumerate(index.images):
        cv2.imwrite(path, np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8))
    (tmp_path / "19.png").write_text("damaged")
    return index


@pytest.fixture
def drawn_tiles(monkeypatch):
    """The tiles of all mosaics that are written."""
    tiles = []
    monkeypatch.setattr(plots, "save_mosaic", lambda path, new, *_: tiles.extend(new))
    return tiles


def test_predictions_are_next_to_the_labels_and_not_below_the_threshold(index, drawn_tiles, tmp_path):
    detections = [detections_of((*BOX, 0.9, 0), (*BOX, 0.2, 1))] * 21
    plots.save_predictions(tmp_path / "p.jpg", index, detections, (352, 352), LABELS)
    assert len(drawn_tiles) == 2 * plots.COMPARED_IMAGES
    assert [tile.caption for tile in drawn_tiles[:2]] == ["labels of 0.png", "predictions above 0.3"]
    # Both tiles show the same box; the tags differ by the score.
    labels, predictions = (tile.image for tile in drawn_tiles[:2])
    assert labels.shape == predictions.shape == (312, 416, 3)
    assert (labels != predictions).any()
    assert np.array_equal(labels[60:], predictions[60:])


def test_given_images_are_drawn_in_their_order_without_damaged_ones(index, drawn_tiles, tmp_path):
    plots.save_predictions(tmp_path / "p.jpg", index, [detections_of()] * 21, (352, 352), LABELS, [19, 7, 3])
    images = [cv2.imread(index.images[number]) for number in (7, 3)]
    for tile, image in zip(drawn_tiles[1::2], images, strict=True):
        assert np.array_equal(tile.image, plots.fit_to_side(image, plots.TILE_SIDE))


def test_without_images_nothing_is_written(index, tmp_path):
    path = tmp_path / "p.jpg"
    plots.save_predictions(path, index, [detections_of()] * 21, (352, 352), LABELS, [])
    assert not path.exists()
