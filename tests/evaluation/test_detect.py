"""utils.evaluation.detect: order of the detections, threads, unreadable images."""

import threading
import time

import cv2
import numpy as np
import pytest
import torch

from tests.helpers.dataset_files import write_data, write_image
from tests.helpers.random_detector import save_random_weights
from utils.config import read_config
from utils.dataset.dataset import DetectionDataset
from utils.dataset.index import load_index
from utils.errors import InputError
from utils.evaluation.detect import collect_detections, detect_images
from utils.postprocess import Thresholds
from utils.runtimes.loading import load_runtime

FRAME = (96, 64)


def images_of(*values):
    """A batch whose pixel values identify the images: [N, 3, 1, 1] uint8."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1), torch.empty(0, 6)


def identify_images(batch):
    """A fake network: one detection per image, whose class is the image's pixel value."""
    images, _ = batch
    time.sleep(0.02 * (3 - int(images[0, 0, 0, 0]) % 3))  # later batches finish earlier
    return [np.array([[0, 0, 1, 1, 0.5, float(value)]], np.float32) for value in images[:, 0, 0, 0]]


@pytest.fixture
def config(tmp_path):
    for index in range(5):
        write_image(tmp_path / "val" / f"{index}.png", 60 + 10 * index, 50, seed=index)
        (tmp_path / "val" / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.4 0.4\n")
    (tmp_path / "val.txt").write_text("".join(f"val/{index}.png\n" for index in range(5)))
    return read_config(write_data(tmp_path, train=None, val="val.txt"))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_detections_are_in_the_order_of_the_images(threads):
    batches = [images_of(0, 1), images_of(2), images_of(3, 4), images_of(5, 6), images_of(7)]
    found = collect_detections(identify_images, batches, 8, threads)
    assert [rows[0, 5] for rows in found] == list(range(8))
    assert all(isinstance(rows, np.ndarray) and rows.shape == (1, 6) for rows in found)


@pytest.mark.parametrize(("threads", "share"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_parallel_batches_share_the_threads_of_pytorch(threads, share):
    seen = []

    def predict(batch):
        seen.append(torch.get_num_threads())
        return identify_images(batch)

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        collect_detections(predict, [images_of(value) for value in range(4)], 4, threads)
        assert torch.get_num_threads() == 4
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert seen == [share] * 4
    assert later == [4]


def test_an_error_restores_the_thread_count():
    def predict(batch):
        raise InputError("no network")

    before = torch.get_num_threads()
    with pytest.raises(InputError, match="no network"):
        collect_detections(predict, [images_of(0), images_of(1)], 2, threads=2)
    assert torch.get_num_threads() == before


def test_no_images():
    assert collect_detections(identify_images, [], 0) == []


def test_batches_give_the_detections_of_single_images(config, tmp_path):
    runtime = load_runtime(save_random_weights(tmp_path / "w.pth"), config, "cpu")
    index = load_index(config.val, config.classes)
    thresholds = Thresholds(0.05, 0.5, 20)
    found = detect_images(runtime, index, config, batch_size=2, workers=2, thresholds=thresholds)
    dataset = DetectionDataset(index, *FRAME)
    assert len(found) == len(dataset)
    for position, rows in enumerate(found):
        (alone,) = runtime.predict(dataset[position][0].permute(1, 2, 0)[None], thresholds)
        assert 0 < len(rows) <= 20
        np.testing.assert_allclose(rows, alone, atol=1e-3)


@pytest.mark.parametrize("batches_at_once", [1, 2])
def test_a_truncated_image_is_named(config, tmp_path, batches_at_once):
    index = load_index(config.val, config.classes)
    content = (tmp_path / "val" / "3.png").read_bytes()
    (tmp_path / "val" / "3.png").write_bytes(content[: len(content) // 2])
    runtime = load_runtime(save_random_weights(tmp_path / "w.pth"), config, "cpu")
    runtime.batches_at_once = batches_at_once
    threads = cv2.getNumThreads()
    with pytest.raises(InputError, match=r"3\.png"):
        detect_images(runtime, index, config, batch_size=1, workers=1)
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize("batches_at_once", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_size_and_threads_do_not_change_the_detections(config, tmp_path, batches_at_once, batch_size):
    runtime = load_runtime(save_random_weights(tmp_path / "w.pth"), config, "cpu")
    runtime.batches_at_once = batches_at_once
    index = load_index(config.val, config.classes)
    expected = detect_images(runtime, index, config, batch_size=5, workers=0)
    found = detect_images(runtime, index, config, batch_size, workers=1)
    for rows, expected_rows in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, expected_rows, atol=1e-3)


def test_a_file_that_is_not_an_image_is_named_before_the_first_batch(config, tmp_path):
    (tmp_path / "val" / "4.png").write_text("not an image")
    index = load_index(config.val, config.classes)

    class Unused:
        device = "cpu"

        def predict(self, *_, **__):
            pytest.fail("predict was called")

    with pytest.raises(InputError, match=r"4\.png: expected an image"):
        detect_images(Unused(), index, config, batch_size=1, workers=1)
