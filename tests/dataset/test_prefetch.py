"""Work ahead in threads: order, how far ahead, what happens to errors, and batches read that way."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.dataset_files import write_picture
from utils.dataset.dataset import DetectionDataset, make_loader
from utils.dataset.index import load_index
from utils.dataset.prefetch import prefetch_map, read_batches
from utils.errors import InputError


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(3) as threads:
        yield threads


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(11):
        write_picture(folder / f"{number:02}.png", 40 + number, 30, seed=number)
        (folder / f"{number:02}.txt").write_text("0 0.5 0.5 0.5 0.5\n" * (number % 3))
    return DetectionDataset(load_index(folder, cache=False), 64, 32)


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 25))
def test_results_come_in_order_however_long_each_takes(pool, delays, ahead):
    def wait(item):
        number, delay = item
        time.sleep(delay / 5000)
        return number

    assert list(prefetch_map(pool, wait, enumerate(delays), ahead)) == list(range(len(delays)))


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_no_more_items_are_taken_than_asked_for_and_ahead(pool, ahead):
    taken = []
    items = (taken.append(number) or number for number in itertools.count())
    results = prefetch_map(pool, lambda item: item, items, ahead)
    for asked in range(1, 6):
        assert next(results) == asked - 1
        assert len(taken) == asked + ahead
    results.close()


def test_errors_come_in_their_turn(pool):
    def root(value):
        if value < 0:
            raise InputError(f"no root of {value}")
        return value**0.5

    results = prefetch_map(pool, root, [4, 9, -1, 16], 2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(InputError, match="no root of -1"):
        next(results)


def test_what_is_not_wanted_any_more_is_not_done():
    done, permits = [], threading.Semaphore(1)

    def work(item):
        permits.acquire()
        done.append(item)

    with ThreadPoolExecutor(1) as single:
        results = prefetch_map(single, work, range(9), 3)
        next(results)
        results.close()
        permits.release(9)
    # The second may have begun.
    assert done in ([0], [0, 1])


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_batches_are_those_of_a_loader(dataset, batch_size, threads):
    batches = list(read_batches(dataset, batch_size, threads))
    expected = list(make_loader(dataset, batch_size))
    assert [len(images) for images, _ in batches] == [len(images) for images, _ in expected]
    for (images, targets), (expected_images, expected_targets) in zip(batches, expected, strict=True):
        assert torch.equal(images, expected_images)
        assert torch.equal(targets, expected_targets)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_image_that_cannot_be_read_is_named(dataset, tmp_path, threads):
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", seed=number)
    index = load_index(tmp_path, cache=False)
    (tmp_path / "1.png").write_bytes(b"gone")
    with pytest.raises(InputError, match=r"1\.png: expected an image"):
        list(read_batches(DetectionDataset(index, 64, 32), 2, threads))


def test_opencv_has_its_own_threads_back_afterwards(dataset):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        batches = read_batches(dataset, 2, 2)
        next(batches)
        assert cv2.getNumThreads() == 1
        batches.close()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
