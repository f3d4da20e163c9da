"""The loss: golden values and gradients, parts of a batch, batches without boxes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, complete_box_iou_loss

from model.detector import DetectorOutput, ScaleOutput
from utils.assign import assign
from utils.config import STRIDES
from utils.loss import complete_iou, detection_loss, match_counts
from utils.recipe import RECIPES

ANCHORS = (
    ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31)),
    ((126.91, 78.23), (131.57, 214.55), (279.92, 258.87)),
)
ORIGINAL = RECIPES["original"]


def assign_both(output, targets):
    return [
        assign(targets, anchors, stride, scale.objectness.shape[2:])
        for scale, anchors, stride in zip(output, ANCHORS, STRIDES, strict=True)
    ]


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
    losses = detection_loss(output, assign_both(output, torch.from_numpy(golden["targets"])), ORIGINAL)
    for name, loss in zip(("total", "box", "obj", "cls"), losses, strict=True):
        assert loss.item() == pytest.approx(golden[name].item(), rel=1e-4), name
    losses.total.backward()
    for scale, stride in zip(output, STRIDES, strict=True):
        for name, maps in zip(("reg", "obj", "cls"), scale, strict=True):
            expected = torch.from_numpy(golden[f"grad_{name}{stride}"])
            torch.testing.assert_close(maps.grad, expected, rtol=1e-4, atol=1e-7, msg=f"grad_{name}{stride}")


def test_a_batch_without_boxes_teaches_objectness_only():
    output = random_output()
    losses = detection_loss(output, assign_both(output, torch.zeros(0, 6)), ORIGINAL)
    assert losses.box.item() == losses.classes.item() == 0
    assert losses.total.item() == losses.objectness.item() > 0
    losses.total.backward()
    assert all(torch.isfinite(maps.grad).all() for maps in leaves(output))


def test_one_class_has_no_class_loss():
    output = random_output(batch=1, classes=1)
    losses = detection_loss(output, assign_both(output, torch.tensor([[0, 0, 0.3, 0.4, 0.4, 0.5]])), ORIGINAL)
    assert losses.classes.item() == 0
    assert losses.box.item() > 0


def test_candidates_that_do_not_match_cost_nothing():
    output = random_output()
    # Too thin for any anchor.
    losses = detection_loss(output, assign_both(output, torch.tensor([[0, 1, 0.5, 0.5, 1.0, 0.01]])), ORIGINAL)
    assert losses.box.item() == losses.classes.item() == 0


def test_the_parts_of_a_batch_add_up_to_it():
    whole = random_output(batch=2)
    counts = match_counts(assign_both(whole, TARGETS))
    assert (counts > 0).all()
    expected = detection_loss(whole, assign_both(whole, TARGETS), ORIGINAL)
    expected_gradients = torch.autograd.grad(expected.total, leaves(whole))

    total = 0.0
    for image in (0, 1):
        part = DetectorOutput(*(ScaleOutput(*(maps[image : image + 1] for maps in scale)) for scale in whole))
        targets = TARGETS[TARGETS[:, 0] == image].clone()
        targets[:, 0] = 0
        total = total + detection_loss(part, assign_both(part, targets), ORIGINAL, counts, share=0.5).total
    torch.testing.assert_close(total, expected.total)
    for got, wanted in zip(torch.autograd.grad(total, leaves(whole)), expected_gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-7)


def test_following_the_gradient_lowers_the_loss():
    output = random_output()
    optimiser = torch.optim.Adam(leaves(output), lr=0.1)
    history = []
    for _ in range(60):
        loss = detection_loss(output, assign_both(output, TARGETS), ORIGINAL).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 10


sides = st.floats(0.1, 50)
places = st.floats(-50, 50)
boxes = st.tuples(places, places, sides, sides)


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
def test_complete_iou_is_torchvisions(a, b):
    a, b = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    expected = 1 - complete_box_iou_loss(box_convert(a, "cxcywh", "xyxy"), box_convert(b, "cxcywh", "xyxy"))
    assert complete_iou(a, b).item() == pytest.approx(expected.item(), abs=1e-5)


def test_complete_iou_of_equal_boxes_is_one():
    box = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert complete_iou(box, box).item() == pytest.approx(1)
