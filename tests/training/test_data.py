"""Choices that depend on the device: where images are kept, and how many processes read them."""

from types import SimpleNamespace

import pytest
import torch

from utils.errors import InputError
from utils.training.data import MAX_GPU_WORKERS, choose_cache, choose_workers

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FREE = 8 * 2**30


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (FREE, 10 * FREE))


@pytest.mark.parametrize(
    ("wanted", "device", "size", "chosen"),
    [
        (None, CPU, 1, "none"),
        (None, GPU, 1, "gpu"),
        (None, GPU, FREE // 2, "gpu"),
        (None, GPU, FREE // 2 + 1, "none"),
        ("gpu", GPU, 1, "gpu"),
        ("none", GPU, 1, "none"),
        ("ram", GPU, 1, "ram"),
        ("disk", CPU, 1, "disk"),
    ],
)
def test_images_go_to_the_gpu_if_half_of_its_memory_is_enough(wanted, device, size, chosen):
    assert choose_cache(wanted, device, size) == chosen


@pytest.mark.parametrize(("device", "size"), [(CPU, 1), (GPU, FREE)])
def test_a_gpu_that_is_missing_or_too_small_is_an_error(device, size):
    with pytest.raises(InputError, match=r"^--cache gpu: .*--cache ram"):
        choose_cache("gpu", device, size)


def test_a_gpu_gets_a_worker_per_core(monkeypatch):
    monkeypatch.setattr("utils.training.data.os", SimpleNamespace(sched_getaffinity=lambda _: range(12)))
    assert choose_workers(None, GPU) == 12
    assert choose_workers(None, CPU) == 2
    assert choose_workers(0, GPU) == choose_workers(0, CPU) == 0
    monkeypatch.setattr("utils.training.data.os", SimpleNamespace(cpu_count=lambda: 128))
    assert choose_workers(None, GPU) == MAX_GPU_WORKERS
    monkeypatch.setattr("utils.training.data.os", SimpleNamespace(sched_getaffinity=lambda _: {3}))
    assert choose_workers(None, CPU) == 1
