"""Images in a device's memory: the batches of a DataLoader, with pixels equal up to rounding."""

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.training_files import write_shapes
from utils.config import read_config
from utils.dataset.augment import AUGMENTATIONS, Change, change_image
from utils.dataset.dataset import DetectionDataset, make_loader
from utils.dataset.device_images import DeviceBatches, change_images
from utils.dataset.index import open_list
from utils.dataset.sampler import TrainBatches, evaluation_batches

CPU = torch.device("cpu")
SIZE = (64, 48)
# OpenCV 4 rounds positions to 1/32 pixel.
LIMIT = 2 if int(cv2.__version__.split(".")[0]) >= 5 else 9


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return open_list(read_config(write_shapes(tmp_path_factory.mktemp("shapes"))), "train")


def differences(image, change):
    """Gray levels between the pixels of the CPU's and the device's augmentation, [H, W, 3]."""
    expected = change_image(image.copy(), change)
    found = change_images(torch.from_numpy(image)[None], torch.tensor([change], dtype=torch.float64))[0].numpy()
    return np.abs(found.astype(int) - expected)


@given(
    seed=st.integers(0, 2**31),
    mirrored=st.booleans(),
    factor=st.floats(0.6, 1.6),
    position=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    contrast=st.floats(0.25, 1.75),
    brightness=st.floats(-30, 30),
)
@settings(max_examples=60, deadline=None)
def test_pixels_of_noise_are_equal_up_to_rounding(seed, mirrored, factor, position, contrast, brightness):
    """In noise, neighbors differ by up to 255 gray levels, so a wrong position of 1/100 pixel would be noticed."""
    image = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    left, top = (share * (1 - factor) for share in position)
    assert differences(image, Change(mirrored, factor, left, top, contrast, brightness)).max() <= LIMIT


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_pixels_of_photos_are_equal_up_to_rounding(shared, name):
    photo = cv2.imread(str(next((shared / "coco-val128").rglob("*.jpg"))))
    image = cv2.resize(photo, (352, 352))
    for seed in range(20):
        assert differences(image, AUGMENTATIONS[name](np.random.default_rng(seed))).max() <= LIMIT


@pytest.mark.parametrize("mirrored", [False, True])
def test_without_zoom_the_pixels_are_equal(mirrored):
    image = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    assert not differences(image, Change(mirrored=mirrored)).any()


@pytest.mark.parametrize("name", [None, *AUGMENTATIONS])
def test_batches_are_those_of_a_loader(index, name):
    augmentation = AUGMENTATIONS[name] if name else None
    dataset = DetectionDataset(index, *SIZE, augment=augmentation, seed=3)
    batches = TrainBatches(len(index), 6, subdivisions=2, seed=1)
    device = DeviceBatches(dataset, batches, CPU)
    for epoch in range(2):
        batches.start(epoch, first_step=epoch)
        dataset.set_epoch(epoch)
        pairs = list(zip(device, make_loader(dataset, batches), strict=True))
        assert len(pairs) == len(batches) > 4
        for (images, targets), (expected_images, expected_targets) in pairs:
            assert torch.equal(targets, expected_targets)
            assert images.shape == expected_images.shape
            assert images.dtype == torch.uint8
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert (images.int() - expected_images.int()).abs().max() <= LIMIT
            assert torch.equal(images, expected_images) or name


@pytest.mark.parametrize("replace_corrupt", [True, False])
def test_an_image_that_cannot_be_read_is_treated_as_in_a_loader(tmp_path, capsys, replace_corrupt):
    data = write_shapes(tmp_path, train=6, val=2)
    index = open_list(read_config(data), "train")
    Path(index.images[2]).write_bytes(b"no image")
    black = cv2.imread(index.images[4]) * 0
    cv2.imwrite(index.images[4], black)
    dataset = DetectionDataset(index, *SIZE, replace_corrupt=replace_corrupt)
    batches = evaluation_batches(len(index), 4)
    device = DeviceBatches(dataset, batches, CPU)
    assert os.path.basename(index.images[2]) in capsys.readouterr().err
    for (images, targets), (expected_images, expected_targets) in zip(
        device, make_loader(dataset, batches), strict=True
    ):
        assert torch.equal(images, expected_images)
        assert torch.equal(targets, expected_targets)


def test_a_stopped_epoch_leaves_no_thread_waiting(index):
    batches = iter(DeviceBatches(DetectionDataset(index, *SIZE), evaluation_batches(len(index), 2), CPU))
    before = threading.active_count()
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gpu_computes_the_same_pixels(name):
    images = torch.randint(0, 256, (16, SIZE[1], SIZE[0], 3), dtype=torch.uint8)
    changes = torch.tensor(
        [AUGMENTATIONS[name](np.random.default_rng(seed)) for seed in range(16)], dtype=torch.float64
    )
    found = change_images(images.cuda(), changes.cuda()).cpu().int()
    assert (found - change_images(images, changes).int()).abs().max() <= 1
