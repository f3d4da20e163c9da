"""Prefetching in threads: order, count of prefetched items, errors, and batches."""

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.dataset_files import load_in_order, write_image
from utils.dataset.dataset import DetectionDataset
from utils.dataset.index import load_index
from utils.dataset.prefetch import prefetch_map, read_batches
from utils.errors import InputError


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(3) as threads:
        yield threads


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(11):
        write_image(folder / f"{index:02}.png", 40 + index, 30, seed=index)
        (folder / f"{index:02}.txt").write_text("0 0.5 0.5 0.5 0.5\n" * (index % 3))
    return DetectionDataset(load_index(folder, cache=False), 64, 32)


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(0, 25))
def test_results_are_in_order_for_any_delays(pool, delays, count):
    def wait(item):
        index, delay = item
        time.sleep(delay / 5000)
        return index

    assert list(prefetch_map(pool, wait, enumerate(delays), count)) == list(range(len(delays)))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_only_count_items_are_taken_in_advance(pool, count):
    taken = []
    items = (taken.append(index) or index for index in itertools.count())
    results = prefetch_map(pool, lambda item: item, items, count)
    for requested in range(1, 6):
        assert next(results) == requested - 1
        assert len(taken) == requested + count
    results.close()


def test_errors_follow_earlier_results(pool):
    def root(value):
        if value < 0:
            raise InputError(f"no root of {value}")
        return value**0.5

    results = prefetch_map(pool, root, [4, 9, -1, 16], 2)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(InputError, match="no root of -1"):
        next(results)


def test_closing_cancels_pending_items():
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
def test_batches_equal_those_of_a_loader(dataset, batch_size, threads):
    batches = list(read_batches(dataset.index, (dataset.width, dataset.height), batch_size, threads))
    for images, (expected, _) in zip(batches, load_in_order(dataset, batch_size), strict=True):
        np.testing.assert_array_equal(images, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("threads", [0, 2])
def test_unreadable_image_is_reported(dataset, tmp_path, threads):
    for index in range(3):
        write_image(tmp_path / f"{index}.png", seed=index)
    index = load_index(tmp_path, cache=False)
    (tmp_path / "1.png").write_bytes(b"gone")
    with pytest.raises(InputError, match=r"1\.png: expected an image"):
        list(read_batches(index, (64, 32), 2, threads))


def test_opencv_threads_are_restored(dataset):
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        batches = read_batches(dataset.index, (64, 32), 2, 2)
        next(batches)
        assert cv2.getNumThreads() == 1
        batches.close()
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
