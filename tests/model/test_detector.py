"""The network against the released checkpoint: names, shapes, numbers."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from model import DetectorOutput, ScaleOutput
from model.backbone.shufflenetv2 import split_by_parity
from model.detector import Detector
from utils.weights.checkpoint import load_weights, read_weights

RELEASED = "reference/coco2017-0.241078ap-model.pth"
MAPS = {"boxes": "reg", "objectness": "obj", "classes": "cls"}  # our names, the golden file's


@pytest.fixture(scope="module")
def released(shared):
    detector = Detector(classes=80, anchor_num=3)
    load_weights(detector, shared / RELEASED)
    return detector.eval()


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "reference" / "outputs.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_splitting_by_parity_is_slicing(layout):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 3).contiguous(memory_format=layout).requires_grad_()
    halves, slices = split_by_parity(x), (x[:, 0::2], x[:, 1::2])
    factors = torch.randn(2, 2, 3, 5, 3)
    gradients = [torch.autograd.grad(sum((h * f).sum() for h, f in zip(parts, factors, strict=True)), x)[0]
                 for parts in (halves, slices)]  # fmt: skip
    assert all(torch.equal(half, part) for half, part in zip(halves, slices, strict=True))
    assert torch.equal(*gradients)
    assert all(half.data_ptr() - x.data_ptr() == 4 * x.stride(1) * number for number, half in enumerate(halves))


def shapes(output):
    return [[tuple(tensor.shape) for tensor in scale] for scale in output]


def test_names_and_shapes_are_the_released_ones(shared):
    lines = (shared / "reference" / "parameters.tsv").read_text().splitlines()[1:]
    expected = [tuple(line.split("\t")) for line in lines]
    detector = Detector(classes=80, anchor_num=3)
    found = [(name, "x".join(map(str, tensor.shape)) or "scalar") for name, tensor in detector.state_dict().items()]
    assert len(expected) == 444
    assert found == expected


def test_released_checkpoint_loads_strictly(shared):
    state = read_weights(shared / RELEASED).tensors
    detector = Detector(classes=80, anchor_num=3)
    detector.load_state_dict(state, strict=True)
    assert list(detector.state_dict()) == list(state)


def test_raw_outputs_are_the_golden_ones(released, golden):
    images = sorted({name.split("/")[0] for name in golden})
    assert len(images) == 4
    batch = torch.from_numpy(np.stack([golden[f"{image}/input"] for image in images]))
    with torch.inference_mode():
        output = released(batch.permute(0, 3, 1, 2).float() / 255)
    for stride, scale in zip((16, 32), output, strict=True):
        for ours, theirs in MAPS.items():
            expected = np.stack([golden[f"{image}/{theirs}{stride}"] for image in images])
            np.testing.assert_allclose(getattr(scale, ours).numpy(), expected, rtol=0, atol=1e-3)


def test_an_image_alone_and_in_a_batch_give_the_same(released, golden):
    images = torch.stack([torch.from_numpy(golden[name]) for name in sorted(golden) if name.endswith("/input")])
    images = images.permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        together, alone = released(images), released(images[2:3])
    for batch_scale, scale in zip(together, alone, strict=True):
        for batch_map, single_map in zip(batch_scale, scale, strict=True):
            torch.testing.assert_close(batch_map[2:3], single_map, atol=1e-4, rtol=0)


def test_operations_and_parameters():
    thop = pytest.importorskip("thop")
    detector = Detector(classes=80, anchor_num=3).eval()
    operations, parameters = thop.profile(detector, inputs=(torch.zeros(1, 3, 352, 352),), verbose=False)
    assert round(operations / 1e6, 2) == 117.57
    assert parameters == 243095


@pytest.mark.parametrize(
    ("height", "width"), [(352, 352), (32, 32), (32, 320), (320, 32), (64, 96), (416, 224), (608, 608)]
)
def test_any_multiple_of_32(height, width):
    detector = Detector(classes=3, anchor_num=3).eval()
    with torch.inference_mode():
        output = detector(torch.zeros(1, 3, height, width))
    assert shapes(output) == [
        [(1, channels, height // stride, width // stride) for channels in (12, 3, 3)] for stride in (16, 32)
    ]


@pytest.mark.parametrize("classes", [1, 2, 80, 1000])
@pytest.mark.parametrize("anchor_num", [1, 3, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_classes_and_anchors(classes, anchor_num, batch):
    detector = Detector(classes, anchor_num).eval()
    with torch.inference_mode():
        output = detector(torch.zeros(batch, 3, 64, 96))
    assert shapes(output) == [
        [(batch, channels, *cells) for channels in (4 * anchor_num, anchor_num, classes)] for cells in ((4, 6), (2, 3))
    ]


@pytest.mark.parametrize(("classes", "anchor_num"), [(0, 3), (-1, 3), (2, 0)])
def test_nothing_to_detect_is_refused(classes, anchor_num):
    with pytest.raises(ValueError, match=f"got {classes} and {anchor_num}"):
        Detector(classes, anchor_num)


def test_outputs_have_names():
    assert DetectorOutput._fields == ("stride16", "stride32")
    assert ScaleOutput._fields == ("boxes", "objectness", "classes")
    output = Detector(2, 3).eval()(torch.zeros(1, 3, 64, 64))
    assert isinstance(output, DetectorOutput)
    assert all(isinstance(scale, ScaleOutput) for scale in output)
    assert output.stride16.boxes is output[0][0]


def test_the_output_layers_serve_both_scales():
    detector = Detector(2, 3).eval()
    torch.nn.init.zeros_(detector.output_obj_layers.weight)
    torch.nn.init.constant_(detector.output_obj_layers.bias, 7)
    output = detector(torch.rand(1, 3, 64, 64))
    assert (output.stride16.objectness == 7).all()
    assert (output.stride32.objectness == 7).all()


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    detector = Detector(2, 3)
    output = detector(torch.rand(2, 3, 96, 64))
    sum(tensor.square().mean() for scale in output for tensor in scale).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


NO_FILES = """
import sys

import torch
import torchvision  # what the network is made of may read its own files first

opened = []


def watch(event, arguments):
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
        opened.append(str(arguments[0]))


sys.addaudithook(watch)
from model.detector import Detector

Detector(80, 3)
print(opened)
"""


def test_importing_and_building_read_no_file(repo, tmp_path):
    """An audit hook sees every file that Python opens; sources of modules are the only ones."""
    result = subprocess.run(
        [sys.executable, "-B", "-c", NO_FILES],
        cwd=tmp_path,
        env={"PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"
