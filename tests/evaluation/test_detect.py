"""The loop of an evaluation: order of the detections, threads, images that cannot be read, both definitions at once."""

import threading
import time

import cv2
import numpy as np
import pytest
import torch

from tests.helpers.dataset_files import write_data, write_picture
from tests.helpers.measured import detections_of
from tests.helpers.random_detector import save_random_weights
from utils.config import read_config
from utils.dataset.dataset import DetectionDataset, make_loader
from utils.dataset.index import load_index
from utils.errors import InputError
from utils.evaluation.detect import collect_detections, detect_images
from utils.evaluation.metrics import measure
from utils.runtimes.loading import load_runtime

FRAME = (96, 64)


def images_of(*values):
    """A batch whose images say which they are: [N, 3, 1, 1] uint8."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 1, 1), torch.empty(0, 6)


def name_images(batch):
    """A stand-in for the network: a detection an image, whose class is the image's value."""
    images, _ = batch
    time.sleep(0.02 * (3 - int(images[0, 0, 0, 0]) % 3))  # later batches are done sooner
    return [torch.tensor([[0, 0, 1, 1, 0.5, float(value)]]) for value in images[:, 0, 0, 0]]


@pytest.fixture
def config(tmp_path):
    for number in range(5):
        write_picture(tmp_path / "val" / f"{number}.png", 60 + 10 * number, 50, seed=number)
        (tmp_path / "val" / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.4\n")
    (tmp_path / "val.txt").write_text("".join(f"val/{number}.png\n" for number in range(5)))
    return read_config(write_data(tmp_path, train=None, val="val.txt"))


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_detections_come_in_the_order_of_the_images(at_once):
    batches = [images_of(0, 1), images_of(2), images_of(3, 4), images_of(5, 6), images_of(7)]
    found = collect_detections(name_images, batches, 8, at_once)
    assert [rows[0, 5] for rows in found] == list(range(8))
    assert all(isinstance(rows, np.ndarray) and rows.shape == (1, 6) for rows in found)


@pytest.mark.parametrize(("at_once", "inside"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_batches_at_once_share_pytorchs_threads(at_once, inside):
    seen = []

    def predict(batch):
        seen.append(torch.get_num_threads())
        return name_images(batch)

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        collect_detections(predict, [images_of(number) for number in range(4)], 4, at_once)
        assert torch.get_num_threads() == 4
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    finally:
        torch.set_num_threads(before)
    assert seen == [inside] * 4
    assert later == [4]


def test_threads_are_given_back_after_an_error():
    def predict(batch):
        raise InputError("no network")

    before = torch.get_num_threads()
    with pytest.raises(InputError, match="no network"):
        collect_detections(predict, [images_of(0), images_of(1)], 2, at_once=2)
    assert torch.get_num_threads() == before


def test_no_images_have_no_detections():
    assert collect_detections(name_images, [], 0) == []


def test_detections_are_those_of_one_image_after_the_other(config, tmp_path):
    runtime = load_runtime(save_random_weights(tmp_path / "w.pth"), config, "cpu")
    index = load_index(config.val, config.classes)
    options = {"conf": 0.05, "iou": 0.5, "max_det": 20}
    found = detect_images(runtime, index, config, batch_size=2, workers=2, **options)
    dataset = DetectionDataset(index, *FRAME)
    assert len(found) == len(dataset)
    for number, rows in enumerate(found):
        (alone,) = runtime.predict(dataset[number][0].permute(1, 2, 0)[None], **options)
        assert 0 < len(rows) <= 20
        np.testing.assert_allclose(rows, alone, atol=1e-3)


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_image_that_turns_out_unreadable_is_named(config, tmp_path, at_once):
    index = load_index(config.val, config.classes)
    content = (tmp_path / "val" / "3.png").read_bytes()
    (tmp_path / "val" / "3.png").write_bytes(content[: len(content) // 2])
    runtime = load_runtime(save_random_weights(tmp_path / "w.pth"), config, "cpu")
    runtime.batches_at_once = at_once
    threads = cv2.getNumThreads()
    with pytest.raises(InputError, match=r"3\.png"):
        detect_images(runtime, index, config, batch_size=1, workers=1)
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize("at_once", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_detections_do_not_depend_on_how_many_are_worked_on(config, tmp_path, at_once, batch_size):
    runtime = load_runtime(save_random_weights(tmp_path / "w.pth"), config, "cpu")
    runtime.batches_at_once = at_once
    index = load_index(config.val, config.classes)
    expected = detect_images(runtime, index, config, batch_size=5, workers=0)
    found = detect_images(runtime, index, config, batch_size, workers=1)
    for rows, expected_rows in zip(found, expected, strict=True):
        np.testing.assert_allclose(rows, expected_rows, atol=1e-3)


def test_what_is_no_image_is_named_before_the_first_batch(config, tmp_path):
    (tmp_path / "val" / "4.png").write_text("no picture")
    index = load_index(config.val, config.classes)

    class Unused:
        device = torch.device("cpu")

        def predict(self, *_, **__):
            pytest.fail("nothing should be detected")

    with pytest.raises(InputError, match=r"4\.png: expected an image"):
        detect_images(Unused(), index, config, batch_size=1, workers=1)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_objects_of_what_is_no_image_count_as_missed(config, tmp_path, capsys, content):
    # Training goes on with such images, which it takes as black.
    whole = load_index(config.val, config.classes, cache=False)
    labels = [detections_of((20, 13, 60, 50, 0.9, number % 2)) for number in range(5)]
    (tmp_path / "val" / "2.png").write_bytes(content)
    index = load_index(config.val, config.classes, cache=False)
    assert index.sizes[2].tolist() == [0, 0]
    dataset = DetectionDataset(index, *FRAME, corrupt="blank")
    found = collect_detections(lambda batch: [torch.empty(0, 6)] * len(batch[0]), make_loader(dataset, 2), 5)
    assert "replaced by a black image" in capsys.readouterr().err
    assert len(found) == 5

    expected = measure([*labels[:2], detections_of(), *labels[3:]], whole, FRAME, config.class_names)
    got = measure([*labels[:2], detections_of(), *labels[3:]], index, FRAME, config.class_names)
    assert got.original == expected.original
    assert got.coco.overall.labels == 5
    assert got.coco.figures["AP50"] == expected.coco.figures["AP50"] < 1
    # What is found in it is false, and no reason to fail.
    with_false = measure(labels, index, FRAME, config.class_names)
    assert len(with_false.results) == 5
