"""Augmentations: labels stay on their objects, pixels stay in range, results depend on the seed only."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.dataset.augment import (
    AUGMENTATIONS,
    MIN_SIDE,
    MIN_VISIBLE,
    ZOOM_RANGE,
    Change,
    change_image,
    change_labels,
    flip_colour,
    flip_zoom_colour,
)

WIDTH, HEIGHT = 96, 64


def scene(seed):
    """A gray image with one bright block per object, and its labels; the brightness of a block encodes its class."""
    rng = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    labels = []
    for class_id in range(3):
        x, y = int(rng.integers(0, WIDTH - 16)), int(class_id * 20 + 1)
        w, h = int(rng.integers(6, 16)), int(rng.integers(6, 16))
        image[y : y + h, x : x + w] = 140 + 30 * class_id
        labels.append((class_id, (x + w / 2) / WIDTH, (y + h / 2) / HEIGHT, w / WIDTH, h / HEIGHT))
    return image, np.array(labels, np.float32)


def augment(augmentation, image, labels, seed):
    change = augmentation(np.random.default_rng(seed))
    return change_image(image, change), change_labels(labels, change, (WIDTH, HEIGHT))


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS.keys() - {"flip_zoom_colour"}))
@given(seed=st.integers(0, 10_000))
def test_labels_stay_on_their_objects(name, seed):
    image, labels = scene(seed)
    before = image.copy()
    out, moved = augment(AUGMENTATIONS[name], image, labels, seed)
    np.testing.assert_array_equal(image, before)
    assert out.shape == before.shape
    assert out.dtype == np.uint8
    assert moved.shape == labels.shape
    assert moved.dtype == np.float32
    for class_id, cx, cy, w, h in moved:
        x1, y1 = round((cx - w / 2) * WIDTH), round((cy - h / 2) * HEIGHT)
        x2, y2 = round((cx + w / 2) * WIDTH), round((cy + h / 2) * HEIGHT)
        block = out[y1:y2, x1:x2]
        assert block.min() == block.max(), class_id
        around = out[max(0, y1 - 1) : y2 + 1, max(0, x1 - 1) : x2 + 1]
        if block.max() < 255 and around.shape != block.shape:
            assert around.min() < block.min() or block.min() == 0


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_same_seed_gives_same_result(name):
    results = [augment(AUGMENTATIONS[name], *scene(1), 5) for _ in range(2)]
    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_labels(name):
    out, labels = augment(AUGMENTATIONS[name], scene(0)[0], np.zeros((0, 5), np.float32), 0)
    assert out.shape == (HEIGHT, WIDTH, 3)
    assert labels.shape == (0, 5)


def test_half_of_the_images_are_mirrored():
    image, labels = scene(3)
    change = Change(mirrored=True)
    np.testing.assert_array_equal(change_image(image, change), image[:, ::-1])
    moved = change_labels(labels, change, (WIDTH, HEIGHT))
    np.testing.assert_allclose(moved[:, 1], 1 - labels[:, 1])
    np.testing.assert_array_equal(moved[:, [0, 2, 3, 4]], labels[:, [0, 2, 3, 4]])
    rng = np.random.default_rng(0)
    assert 160 < sum(flip_colour(rng).mirrored for _ in range(400)) < 240


def test_the_default_change_does_nothing():
    image, labels = scene(3)
    np.testing.assert_array_equal(change_image(image, Change()), image)
    np.testing.assert_array_equal(change_labels(labels, Change(), (WIDTH, HEIGHT)), labels)


def test_contrast_and_brightness_are_mild():
    image, _ = scene(3)
    rng = np.random.default_rng(0)
    means = [change_image(image, flip_colour(rng)).mean() / image.mean() for _ in range(200)]
    assert 0 <= min(means) < 0.4
    assert 1.6 < max(means) < 2.1


def test_original_augmentation_equals_opencv():
    image, labels = scene(3)
    out, _ = augment(AUGMENTATIONS["contrast_brightness"], image, labels, 7)
    alpha, beta = np.random.default_rng(7).uniform(0.25, 1.75, 2)
    np.testing.assert_array_equal(out, cv2.convertScaleAbs(image, alpha=alpha, beta=beta))


@given(seed=st.integers(0, 10_000))
def test_zoom_keeps_labels_on_their_objects(seed):
    """The inside of a label has the brightness of its object, the outside does not, except for one blurred pixel."""
    image, labels = scene(seed)
    change = flip_zoom_colour(np.random.default_rng(seed))
    change = change._replace(contrast=1, brightness=0)
    out, moved = change_image(image, change), change_labels(labels, change, (WIDTH, HEIGHT))
    assert out.shape == image.shape
    for class_id, cx, cy, w, h in moved:
        x1, y1 = int(np.ceil((cx - w / 2) * WIDTH + 1)), int(np.ceil((cy - h / 2) * HEIGHT + 1))
        x2, y2 = int((cx + w / 2) * WIDTH - 1), int((cy + h / 2) * HEIGHT - 1)
        assert (out[y1:y2, x1:x2] == 140 + 30 * int(class_id)).all()
    # Every object pixel that is not at a blurred edge is in a label.
    inside = np.zeros((HEIGHT, WIDTH), bool)
    for _, cx, cy, w, h in moved:
        x1, y1 = (max(0, int((c - s / 2) * n - 2)) for c, s, n in ((cx, w, WIDTH), (cy, h, HEIGHT)))
        x2, y2 = (int((c + s / 2) * n + 3) for c, s, n in ((cx, w, WIDTH), (cy, h, HEIGHT)))
        inside[y1:y2, x1:x2] = True
    if len(moved) == len(labels):
        assert (out[..., 0] < 140)[~inside].all()


@given(
    center=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    sides=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    factor=st.floats(*ZOOM_RANGE).filter(lambda factor: factor != 1),  # without a zoom, the offset is 0
    offset=st.tuples(st.floats(-0.6, 0.4), st.floats(-0.6, 0.4)),
)
def test_placed_labels_are_in_the_frame_and_large_enough(center, sides, factor, offset):
    labels = np.array([[3, *center, *sides]], np.float32)
    placed = change_labels(labels, Change(False, factor, *offset), (352, 352))
    low = ((np.array(center) - np.array(sides) / 2) * factor + offset).clip(0, 1)
    high = ((np.array(center) + np.array(sides) / 2) * factor + offset).clip(0, 1)
    share = (high - low).prod() / (np.prod(sides) * factor**2)
    if len(placed):
        assert placed.dtype == np.float32
        assert share >= MIN_VISIBLE - 1e-4
        assert (placed[0, 3:] * 352 >= MIN_SIDE - 1e-3).all()
        np.testing.assert_allclose(placed[0, 1:3], (low + high) / 2, atol=1e-5)
        np.testing.assert_allclose(placed[0, 3:], high - low, atol=1e-5)
    else:
        assert share < MIN_VISIBLE + 1e-4 or ((high - low) * 352 < MIN_SIDE + 1e-3).any()
