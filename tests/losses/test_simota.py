"""SimOTA loss: selected matches, targets, parts of a batch, batches without boxes."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou

from model import DetectorOutput, ScaleOutput
from tests.losses.test_original import ANCHORS, TARGETS, leaves, random_output
from utils.boxes import paired_iou
from utils.export.graph import activate, decode
from utils.losses import pad_targets
from utils.losses.original import OriginalLoss
from utils.losses.simota import (
    IOU_COST,
    TOP_IOUS,
    SimotaLoss,
    decode_matches,
    flatten_output,
    select_matches,
)
from utils.training.recipe import DEFAULT, RECIPES

RECIPE = RECIPES[DEFAULT]
LOSS = SimotaLoss(RECIPE, ANCHORS)


def loss_of(output, targets, side=96, **changes):
    loss = SimotaLoss(dataclasses.replace(RECIPE, **changes), ANCHORS)
    matches = loss.prepare(targets, (side, side))
    return loss(output, matches, loss.count(matches))


def parts_of_choice(output, targets, side=96):
    candidates = LOSS.prepare(targets, (side, side))
    boxes, objectness, logits = flatten_output(output)
    overlap = paired_iou(
        decode_matches(boxes, candidates), candidates.boxes[:, None].expand(*candidates.cell.shape, 4)
    ).detach()
    probability = logits.log_softmax(1)[candidates.cell]
    labels = candidates.class_ids[:, None, None].expand(*candidates.cell.shape, 1)
    return candidates, overlap, -probability.gather(2, labels).squeeze(2).detach(), objectness.detach()


def random_targets(generator, count, batch, classes):
    targets = torch.rand(count, 6, generator=generator)
    targets[:, 0] = torch.randint(batch, (count,), generator=generator)
    targets[:, 1] = torch.randint(classes, (count,), generator=generator)
    targets[:, 4:] = targets[:, 4:] * 0.6 + 0.02
    return targets


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 30))
def test_selected_matches_equal_a_loop(seed, count):
    """Compare with SimOTA written as loops."""
    generator = torch.Generator().manual_seed(seed)
    output = random_output(batch=2, classes=3, seed=seed)
    targets = random_targets(generator, count, 2, 3)
    candidates, overlap, class_costs, objectness = parts_of_choice(output, targets)
    chosen = select_matches(candidates, overlap, class_costs, objectness)

    wanted = []
    for box in range(count):
        allowed = candidates.allowed[box].nonzero().flatten().tolist()
        score = {k: objectness[candidates.anchor[box, k]].sigmoid().log() - class_costs[box, k] for k in allowed}
        cost = {k: float(-score[k] - IOU_COST * (overlap[box, k] + 1e-7).log()) for k in allowed}
        best = sorted((float(overlap[box, k]) for k in allowed), reverse=True)[:TOP_IOUS]
        match_count = max(1, round(sum(best)))
        wanted.append({k: cost[k] for k in sorted(cost, key=cost.get)[:match_count]})
        dearest = max(wanted[-1].values())
        # Another match can only have the same cost as the last expected one, up to rounding.
        for k in chosen[box].nonzero().flatten().tolist():
            assert k in wanted[-1] or abs(cost[k] - dearest) < 1e-4
    for box in range(count):
        for k, cost in wanted[box].items():
            anchor = candidates.anchor[box, k]
            rivals = [
                other[j]
                for other_box, other in enumerate(wanted)
                for j in other
                if other_box != box and candidates.anchor[other_box, j] == anchor
            ]
            assert bool(chosen[box, k]) == all(cost <= rival + 1e-4 for rival in rivals) or any(
                abs(cost - rival) < 1e-4 for rival in rivals
            )
    assert (chosen.sum(1) <= torch.tensor([len(boxes) for boxes in wanted])).all()
    assert not (chosen & ~candidates.allowed).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 60))
def test_a_prediction_is_matched_to_one_box(seed, count):
    generator = torch.Generator().manual_seed(seed)
    targets = random_targets(generator, count, 2, 3)
    candidates, overlap, class_costs, objectness = parts_of_choice(random_output(batch=2, seed=seed), targets)
    chosen = select_matches(candidates, overlap, class_costs, objectness)
    taken, of_box = candidates.anchor[chosen], (class_costs - IOU_COST * (overlap + 1e-7).log())[chosen]
    for anchor in taken.unique():
        costs = of_box[taken == anchor]
        assert (costs == costs[0]).all()  # several boxes only if their costs are equal


def perfect_output(target, side=96, classes=3):
    """Return logits that predict one box exactly at all its possible matches, and nothing elsewhere."""
    output = DetectorOutput(
        *(
            ScaleOutput(
                torch.zeros(1, 12, side // stride, side // stride),
                torch.full((1, 3, side // stride, side // stride), -20.0),
                torch.zeros(1, classes, side // stride, side // stride),
            )
            for stride in (16, 32)
        )
    )
    candidates = LOSS.prepare(target, (side, side))
    cells16 = (side // 16) ** 2
    for k in candidates.allowed[0].nonzero().flatten().tolist():
        cell, anchor = int(candidates.cell[0, k]), int(candidates.anchor[0, k]) % 3
        scale, stride, cell = (output[0], 16, cell) if cell < cells16 else (output[1], 32, cell - cells16)
        row, column = divmod(cell, side // stride)
        center = (candidates.boxes[0, :2] - candidates.positions[0, k] * stride) / stride
        shape = (candidates.boxes[0, 2:] / candidates.anchor_sizes[k]).sqrt() / 2
        activated = torch.cat(((center + 0.5) / 2, shape))
        scale.boxes[0, 4 * anchor : 4 * anchor + 4, row, column] = torch.logit(activated)
        scale.objectness[0, anchor, row, column] = 20
        scale.classes[0, int(target[0, 1]), row, column] = 40
    return output, candidates


def test_exact_predictions_have_no_box_and_class_loss():
    target = torch.tensor([[0, 1, 0.47, 0.52, 0.3, 0.35]])
    output, candidates = perfect_output(target)
    found = decode(activate(output), ANCHORS)
    best = box_convert(found.boxes[0, found.scores[0] > 0.9], "cxcywh", "xyxy")
    assert box_iou(best, box_convert(candidates.boxes, "cxcywh", "xyxy")).min() > 0.999
    losses = LOSS(output, candidates, LOSS.count(candidates))
    assert losses.box.item() == pytest.approx(0, abs=1e-3)
    assert losses.classes.item() == pytest.approx(0, abs=1e-3)
    # At most TOP_IOUS anchors are matched; the others have a high objectness and the target 0.
    others = max(0, int(candidates.allowed.sum()) - TOP_IOUS)
    assert losses.objectness.item() == pytest.approx(20 * others, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("power", [0.0, RECIPE.focal_power])
def test_the_target_of_objectness_is_the_iou(power):
    output = random_output(seed=3)
    candidates, overlap, class_costs, objectness = parts_of_choice(output, TARGETS)
    chosen = select_matches(candidates, overlap, class_costs, objectness)
    expected = torch.zeros_like(objectness)
    for box, k in chosen.nonzero().tolist():
        expected[candidates.anchor[box, k]] = overlap[box, k]
    losses = loss_of(output, TARGETS, focal_power=power)
    gradients = torch.autograd.grad(losses.objectness, [scale.objectness for scale in output])
    flat = torch.cat([maps.permute(0, 2, 3, 1).flatten(1) for maps in gradients], 1).flatten()
    difference = objectness.sigmoid() - expected
    torch.testing.assert_close(flat, difference * difference.abs() ** power * RECIPE.objectness_weight / len(TARGETS))


def test_each_weight_scales_its_loss():
    output = random_output()
    plain = loss_of(output, TARGETS)
    heavy = loss_of(output, TARGETS, box_weight=3.0, objectness_weight=4.0, class_weight=5.0)
    assert heavy.box.item() == pytest.approx(plain.box.item() * 3.0 / RECIPE.box_weight, rel=1e-5)
    assert heavy.objectness.item() == pytest.approx(plain.objectness.item() * 4.0 / RECIPE.objectness_weight, rel=1e-5)
    assert heavy.classes.item() == pytest.approx(plain.classes.item() * 5.0 / RECIPE.class_weight, rel=1e-5)
    assert heavy.total.item() == pytest.approx((heavy.box + heavy.objectness + heavy.classes).item(), rel=1e-5)


def test_with_fewer_boxes_than_images_the_divisor_is_the_image_count():
    """A batch with one box in hundreds of images must not outweigh all others."""
    output = random_output(batch=2)
    one = loss_of(output, TARGETS[:1])
    candidates = LOSS.prepare(TARGETS[:1], (96, 96))
    two = LOSS(output, candidates, torch.tensor([2.0]))
    assert one.total.item() == pytest.approx(two.total.item(), rel=1e-5)


def test_parts_add_up_to_the_batch():
    output = random_output(batch=2)
    whole = loss_of(output, TARGETS)
    whole_gradients = torch.autograd.grad(whole.total, leaves(output))
    totals = []
    for image in range(2):
        part = DetectorOutput(*(ScaleOutput(*(maps[image : image + 1] for maps in scale)) for scale in output))
        targets = TARGETS[TARGETS[:, 0] == image].clone()
        targets[:, 0] = 0
        candidates = LOSS.prepare(targets, (96, 96))
        totals.append(torch.stack(LOSS(part, candidates, torch.tensor([4.0]), 0.5)))
    torch.testing.assert_close(sum(totals), torch.stack(whole))
    gradients = torch.autograd.grad(sum(totals)[0], leaves(output))
    for found, expected in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_no_boxes():
    output = random_output()
    losses = loss_of(output, torch.zeros(0, 6))
    assert losses.box == losses.classes == 0
    logits = [scale.objectness for scale in output]
    expected = sum((each.sigmoid() * torch.nn.functional.softplus(each)).sum() for each in logits)
    assert losses.objectness.item() == pytest.approx(expected.item() * RECIPE.objectness_weight / 2, rel=1e-5)
    losses.total.backward()
    for scale in output:
        assert torch.isfinite(scale.objectness.grad).all()


def test_the_class_loss_is_not_divided_by_the_class_count():
    """With equal logits, the class loss is log C per match for any class count C."""
    for classes in (3, 80):
        output = random_output(classes=classes)
        for scale in output:
            scale.classes.data.zero_()
        candidates, *parts = parts_of_choice(output, TARGETS)
        chosen = select_matches(candidates, *parts).sum()
        expected = RECIPE.class_weight * chosen * torch.tensor(float(classes)).log() / len(TARGETS)
        assert loss_of(output, TARGETS).classes.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_extreme_logits_give_finite_gradients(extreme):
    output = random_output()
    for maps in leaves(output):
        maps.data.fill_(extreme)
    loss_of(output, TARGETS).total.backward()
    assert all(torch.isfinite(maps.grad).all() for maps in leaves(output))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 40), anchors=st.integers(1, 4), classes=st.integers(1, 9))
def test_any_number_of_anchors_classes_and_boxes(seed, count, anchors, classes):
    generator = torch.Generator().manual_seed(seed)
    output = DetectorOutput(
        *(
            ScaleOutput(
                torch.randn(2, 4 * anchors, 96 // stride, 96 // stride, generator=generator),
                torch.randn(2, anchors, 96 // stride, 96 // stride, generator=generator),
                torch.randn(2, classes, 96 // stride, 96 // stride, generator=generator),
            )
            for stride in (16, 32)
        )
    )
    sizes = torch.rand(2, anchors, 2, generator=generator) * 90 + 4
    sizes = tuple(tuple(map(tuple, scale)) for scale in sizes.tolist())
    candidates = SimotaLoss(RECIPE, sizes).prepare(random_targets(generator, count, 2, classes), (96, 96))
    losses = LOSS(output, candidates, LOSS.count(candidates))
    assert torch.isfinite(torch.stack(losses)).all()


@pytest.mark.parametrize("loss", [LOSS, OriginalLoss(RECIPES["original"], ANCHORS)])
def test_padding_changes_nothing(loss):
    results = []
    for targets in (TARGETS, pad_targets(TARGETS, 20)):
        output = random_output()
        prepared = loss.prepare(targets, (96, 96))
        count = loss.count(prepared)
        losses = loss(output, prepared, count)
        results.append((count, torch.stack(losses), *torch.autograd.grad(losses.total, leaves(output))))
    for padded, expected in zip(*results, strict=True):
        torch.testing.assert_close(padded, expected)
    assert torch.isfinite(results[1][1]).all()
