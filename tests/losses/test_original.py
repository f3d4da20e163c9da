"""The original loss: golden values and gradients, parts of a batch, batches without boxes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, complete_box_iou_loss

from model import STRIDES, DetectorOutput, ScaleOutput
from utils.boxes import complete_iou
from utils.losses.original import OriginalLoss
from utils.training.recipe import RECIPES

ANCHORS = (
    ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31)),
    ((126.91, 78.23), (131.57, 214.55), (279.92, 258.87)),
)
ORIGINAL = RECIPES["original"]


LOSS = OriginalLoss(ORIGINAL, ANCHORS)


def loss_of(output, targets, loss=LOSS):
    height, width = output.stride32.objectness.shape[2:]
    matches = loss.prepare(targets, (height * 32, width * 32))
    return loss(output, matches, loss.count(matches))


def random_output(batch=2, classes=3, side=96, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def maps(channels, stride):
        shape = (batch, channels, side // stride, side // stride)
        return torch.randn(shape, generator=generator).requires_grad_()

    return DetectorOutput(
        *(ScaleOutput(maps(12, stride), maps(3, stride), maps(classes, stride)) for stride in STRIDES)
    )


def leaves(output):
    return [maps for scale in output for maps in scale]


TARGETS = torch.tensor(
    [
        [0, 1, 0.3, 0.4, 0.4, 0.5],
        [0, 0, 0.7, 0.6, 0.12, 0.2],
        [1, 2, 0.52, 0.5, 0.9, 0.8],
        [1, 1, 0.1, 0.9, 0.15, 0.2],
    ]
)


@pytest.fixture
def golden(shared):
    return np.load(shared / "reference" / "loss.npz")


def test_golden_losses_and_gradients(golden):
    output = DetectorOutput(
        *(
            ScaleOutput(
                *(torch.from_numpy(golden[f"{name}{stride}"]).requires_grad_() for name in ("reg", "obj", "cls"))
            )
            for stride in STRIDES
        )
    )
    losses = loss_of(output, torch.from_numpy(golden["targets"]))
    for name, loss in zip(("total", "box", "obj", "cls"), losses, strict=True):
        assert loss.item() == pytest.approx(golden[name].item(), rel=1e-4), name
    losses.total.backward()
    for scale, stride in zip(output, STRIDES, strict=True):
        for name, maps in zip(("reg", "obj", "cls"), scale, strict=True):
            expected = torch.from_numpy(golden[f"grad_{name}{stride}"])
            torch.testing.assert_close(maps.grad, expected, rtol=1e-4, atol=1e-9, msg=f"grad_{name}{stride}")


def test_a_batch_without_boxes_has_only_an_objectness_loss():
    output = random_output()
    losses = loss_of(output, torch.zeros(0, 6))
    assert losses.box.item() == losses.classes.item() == 0
    assert losses.total.item() == losses.objectness.item() > 0
    losses.total.backward()
    assert all(torch.isfinite(maps.grad).all() for maps in leaves(output))


def test_one_class_has_no_class_loss():
    output = random_output(batch=1, classes=1)
    losses = loss_of(output, torch.tensor([[0, 0, 0.3, 0.4, 0.4, 0.5]]))
    assert losses.classes.item() == 0
    assert losses.box.item() > 0


def test_boxes_without_a_match_have_no_box_and_class_loss():
    output = random_output()
    # Too thin for any anchor.
    losses = loss_of(output, torch.tensor([[0, 1, 0.5, 0.5, 1.0, 0.01]]))
    assert losses.box.item() == losses.classes.item() == 0


@pytest.mark.parametrize("size", [(0.0, 0.0), (0.0, 0.4), (0.4, 0.0), (1e-30, 1e-30)])
def test_a_box_without_area_has_only_an_objectness_loss(size):
    output = random_output()
    losses = loss_of(output, torch.tensor([[0, 1, 0.5, 0.5, *size]]))
    losses.total.backward()
    assert losses.box.item() == losses.classes.item() == 0
    assert all(torch.isfinite(maps.grad).all() for maps in leaves(output))


@pytest.mark.parametrize("logit", [-1000.0, -60.0, 60.0, 1000.0])
def test_extreme_logits_give_finite_losses_and_gradients(logit):
    output = random_output()
    with torch.no_grad():
        for maps in leaves(output):
            maps.fill_(logit)
    losses = loss_of(output, TARGETS)
    losses.total.backward()
    assert all(torch.isfinite(loss) for loss in losses)
    assert all(torch.isfinite(maps.grad).all() for maps in leaves(output))


def test_values_computed_by_hand():
    """One box that matches one anchor of one cell; all logits are 0."""
    output = DetectorOutput(
        *(
            ScaleOutput(*(torch.zeros(1, channels, 96 // stride, 96 // stride) for channels in (12, 3, 4)))
            for stride in STRIDES
        )
    )
    # The box has the size of the third anchor of stride 32, fits no other, and is in the middle of the border cell.
    side = (100.0, 250.0)
    anchors = (((10.0, 10.0),) * 3, ((10.0, 10.0), (10.0, 10.0), side))
    target = torch.tensor([[0, 2, 16 / 96, 16 / 96, side[0] / 96, side[1] / 96]])
    loss = OriginalLoss(ORIGINAL, anchors)
    assert loss.count(loss.prepare(target, (96, 96))).tolist() == [0, 1]
    losses = loss_of(output, target, loss)
    # Logits of 0 decode to the middle of the cell and the size of the anchor, which is the box.
    assert losses.box.item() == pytest.approx(0, abs=1e-5)
    # The binary cross-entropy of probability 0.5 is ln 2 for both targets; the weights of the scales are 1 and 0.4.
    assert losses.objectness.item() == pytest.approx(64 * 1.4 * math.log(2), rel=1e-5)
    # Four equal probabilities: ln 4, divided by the number of classes.
    assert losses.classes.item() == pytest.approx(32 * math.log(4) / 4, rel=1e-5)
    assert losses.total.item() == pytest.approx(sum(loss.item() for loss in losses[1:]), rel=1e-5)


def test_the_box_loss_is_the_mean_over_the_matches():
    """The losses do not change if each box is given twice."""
    output = random_output(batch=1)
    once = TARGETS[TARGETS[:, 0] == 0]
    first = loss_of(output, once)
    second = loss_of(output, once.repeat(2, 1))
    torch.testing.assert_close(first, second)


def test_nothing_waits_for_the_device():
    """Tensors on the meta device have no values, so code that reads a value on the host fails."""
    output = DetectorOutput(*(ScaleOutput(*(maps.detach().to("meta") for maps in scale)) for scale in random_output()))
    for maps in leaves(output):
        maps.requires_grad_()
    losses = loss_of(output, TARGETS.to("meta"))
    losses.total.backward()
    assert {loss.device.type for loss in losses} == {"meta"}
    assert all(maps.grad is not None for maps in leaves(output))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_outputs_give_nearly_the_same_losses(dtype):
    output = random_output()
    halves = DetectorOutput(*(ScaleOutput(*(maps.to(dtype) for maps in scale)) for scale in output))
    got = loss_of(halves, TARGETS)
    assert got.total.dtype == torch.float32
    expected = loss_of(output, TARGETS)
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0)


def test_the_parts_of_a_batch_add_up_to_it():
    whole = random_output(batch=2)
    counts = LOSS.count(LOSS.prepare(TARGETS, (96, 96)))
    assert (counts > 0).all()
    expected = loss_of(whole, TARGETS)
    expected_gradients = torch.autograd.grad(expected.total, leaves(whole))

    total = 0.0
    for image in (0, 1):
        part = DetectorOutput(*(ScaleOutput(*(maps[image : image + 1] for maps in scale)) for scale in whole))
        targets = TARGETS[TARGETS[:, 0] == image].clone()
        targets[:, 0] = 0
        total = total + LOSS(part, LOSS.prepare(targets, (96, 96)), counts, share=0.5).total
    torch.testing.assert_close(total, expected.total)
    for got, wanted in zip(torch.autograd.grad(total, leaves(whole)), expected_gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-7)


def test_gradient_descent_lowers_the_loss():
    output = random_output()
    optimizer = torch.optim.Adam(leaves(output), lr=0.1)
    history = []
    for _ in range(60):
        loss = loss_of(output, TARGETS).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 10


sides = st.floats(0.1, 50)
places = st.floats(-50, 50)
boxes = st.tuples(places, places, sides, sides)


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
def test_complete_iou_equals_torchvision(a, b):
    a, b = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    expected = 1 - complete_box_iou_loss(box_convert(a, "cxcywh", "xyxy"), box_convert(b, "cxcywh", "xyxy"))
    assert complete_iou(a, b).item() == pytest.approx(expected.item(), abs=1e-5)


def test_complete_iou_of_equal_boxes_is_one():
    box = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert complete_iou(box, box).item() == pytest.approx(1)
