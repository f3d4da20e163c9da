"""The choice of a device. tests/scripts/test_pytorch2onnx.py loads exported models."""

import pytest
import torch

from utils.errors import InputError
from utils.runtimes.device import describe_device, select_device


def test_select_device():
    assert select_device("cpu") == torch.device("cpu")
    assert select_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_a_missing_device(name):
    with pytest.raises(InputError, match=f"--device {name}: expected"):
        select_device(name)


def test_a_gpu_is_described_with_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    assert describe_device(torch.device("cuda:1")) == "cuda:1 (NVIDIA H100)"
    assert describe_device(torch.device("cpu")).startswith("cpu (")
    assert describe_device(torch.device("mps")) == "mps"
