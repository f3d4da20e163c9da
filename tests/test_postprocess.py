"""Decoding and suppression: golden detections of the released checkpoint, hand-made cells, properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_convert, nms

from model import DetectorOutput, ScaleOutput
from utils.boxes import decode_boxes, xyxy_iou_matrix
from utils.export.graph import activate, decode
from utils.postprocess import (
    Candidates,
    Thresholds,
    _select_on_device,
    _select_on_host,
    detect,
    find_candidates,
    suppress,
)

ANCHORS = (
    ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31)),
    ((126.91, 78.23), (131.57, 214.55), (279.92, 258.87)),
)
GOLDEN_IMAGES = ("000000000139", "000000000285", "000000000632", "000000000724")


def empty_output(batch=1, classes=3, height=64, width=96, anchors=3):
    """Logits at which nothing is detected."""
    return DetectorOutput(
        *(
            ScaleOutput(
                boxes=torch.zeros(batch, 4 * anchors, height // stride, width // stride),
                objectness=torch.full((batch, anchors, height // stride, width // stride), -20.0),
                classes=torch.zeros(batch, classes, height // stride, width // stride),
            )
            for stride in (16, 32)
        )
    )


@pytest.fixture
def golden(shared):
    return np.load(shared / "reference" / "outputs.npz")


def golden_output(golden, image):
    def scale(stride):
        return ScaleOutput(
            *(torch.from_numpy(golden[f"{image}/{name}{stride}"])[None] for name in ("reg", "obj", "cls"))
        )

    return DetectorOutput(scale(16), scale(32))


@pytest.mark.parametrize("image", GOLDEN_IMAGES)
def test_decodes_the_golden_maps(golden, image):
    predictions = decode(activate(golden_output(golden, image)), ANCHORS)
    expected = torch.from_numpy(golden[f"{image}/decoded"])
    probabilities = expected[:, 5:]
    torch.testing.assert_close(predictions.boxes[0], expected[:, :4], atol=1e-3, rtol=0)
    torch.testing.assert_close(predictions.scores[0], expected[:, 4] * probabilities.max(1)[0], atol=1e-5, rtol=0)
    assert torch.equal(predictions.class_ids[0], probabilities.argmax(1))


@pytest.mark.parametrize("image", GOLDEN_IMAGES)
def test_detects_the_golden_detections(golden, image):
    (detections,) = detect(golden_output(golden, image), ANCHORS, Thresholds())
    expected = golden[f"{image}/detections"]
    assert len(detections) == len(expected) > 0
    np.testing.assert_array_equal(detections[:, 5], expected[:, 5])
    np.testing.assert_allclose(detections[:, :4], expected[:, :4], atol=0.1, rtol=0)
    np.testing.assert_allclose(detections[:, 4], expected[:, 4], atol=1e-4, rtol=0)


def test_a_batch_gives_what_its_images_give_alone(golden):
    outputs = [golden_output(golden, image) for image in GOLDEN_IMAGES]
    batch = DetectorOutput(
        *(
            ScaleOutput(*(torch.cat(maps) for maps in zip(*scales, strict=True)))
            for scales in zip(*outputs, strict=True)
        )
    )
    together = detect(batch, ANCHORS, Thresholds(0.01))
    for detections, output in zip(together, outputs, strict=True):
        (alone,) = detect(output, ANCHORS, Thresholds(0.01))
        np.testing.assert_allclose(detections, alone, rtol=1e-5)


def test_zero_logits_decode_to_the_anchor_at_the_cell_center():
    zeros = DetectorOutput(*(ScaleOutput(*map(torch.zeros_like, scale)) for scale in empty_output()))
    boxes = (
        decode(activate(zeros), ANCHORS).boxes[0, : 3 * 4 * 6].view(4, 6, 3, 4)
    )  # rows, columns, anchors at stride 16
    torch.testing.assert_close(boxes[1, 2, 1], torch.tensor([2.5 * 16, 1.5 * 16, 37.88, 51.48]))


def test_one_cell_becomes_one_detection_on_a_frame_that_is_not_square():
    output = empty_output()
    output.stride32.objectness[0, 2, 1, 0] = 20.0
    output.stride32.classes[0, 1, 1, 0] = 20.0
    (detections,) = detect(output, ANCHORS, Thresholds())
    (width, height), (cx, cy) = ANCHORS[1][2], (0.5 * 32, 1.5 * 32)
    expected = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, 1.0, 1.0]
    np.testing.assert_allclose(detections, [expected], rtol=1e-5, atol=1e-4)


def test_nothing_found_is_an_empty_array_per_image():
    detections = detect(empty_output(batch=2), ANCHORS, Thresholds(0.01))
    assert [d.shape for d in detections] == [(0, 6), (0, 6)]


def test_half_precision_is_decoded_in_float32():
    output = DetectorOutput(*(ScaleOutput(*(maps.half() for maps in scale)) for scale in empty_output()))
    assert decode(activate(output), ANCHORS).boxes.dtype == torch.float32


def candidates_of(boxes, scores, labels, images=None):
    """Candidates from corner boxes, of one image if none is given."""
    images = [0] * len(boxes) if images is None else images
    boxes, scores = (np.array(values, np.float32) for values in (boxes, scores))
    return Candidates(np.array(images), boxes, scores, np.array(labels))


SAME_PLACE = [[10.0, 10, 50, 50], [11.0, 10, 51, 50], [10.0, 11, 50, 51]]


def test_suppression_keeps_the_best_of_a_class():
    (kept,) = suppress(candidates_of(SAME_PLACE, [0.5, 0.9, 0.7], [1, 1, 1]), 1, Thresholds())
    assert kept[:, 4].tolist() == pytest.approx([0.9])


def test_suppression_leaves_other_classes():
    (kept,) = suppress(candidates_of(SAME_PLACE, [0.5, 0.9, 0.7], [0, 1, 2]), 1, Thresholds())
    assert kept[:, 5].tolist() == [1, 2, 0]


def test_suppression_leaves_other_images():
    kept = suppress(candidates_of(SAME_PLACE, [0.5, 0.9, 0.7], [1, 1, 1], [0, 2, 2]), 4, Thresholds())
    assert [rows[:, 4].tolist() for rows in kept] == [pytest.approx(scores) for scores in ([0.5], [], [0.9], [])]


def test_classes_far_outside_the_frame_do_not_meet():
    """Boxes of different classes are moved apart by more than any of them reaches, also to the left."""
    boxes = [[-900.0, -900, 10, 10], [-890.0, -900, 20, 10], [5.0, 5, 10, 10]]
    (kept,) = suppress(candidates_of(boxes, [0.9, 0.8, 0.7], [0, 1, 90_000]), 1, Thresholds(iou=0.1))
    assert len(kept) == 3


def test_only_the_wanted_classes_are_kept():
    output = empty_output()
    for column, label in enumerate((0, 1, 2)):
        output.stride16.objectness[0, 0, 1, 2 * column] = 20.0
        output.stride16.classes[0, label, 1, 2 * column] = 20.0
    (kept,) = detect(output, ANCHORS, Thresholds(0.3, classes=[0, 2]))
    assert sorted(kept[:, 5].tolist()) == [0, 2]


def test_no_more_than_max_det_are_kept():
    boxes = [[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(20)]
    scores = [0.3 + 0.03 * i for i in range(20)]
    (kept,) = suppress(candidates_of(boxes, scores, [0] * 20), 1, Thresholds(max_det=5))
    assert kept[:, 4].tolist() == pytest.approx(scores[:-6:-1])


def random_output(seed, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return DetectorOutput(
        *(
            ScaleOutput(*(torch.randn(maps.shape, generator=generator) * 2 for maps in scale))
            for scale in empty_output(batch)
        )
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    conf=st.floats(0, 0.9),
    classes=st.none() | st.sets(st.integers(0, 3)).map(tuple),
    activated=st.booleans(),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_candidates_are_all_predictions_above_the_threshold(seed, conf, classes, activated, layout):
    output = random_output(seed)
    dense = decode(activate(output), ANCHORS)
    if activated:
        output = activate(output)
    output = DetectorOutput(*(ScaleOutput(*(m.contiguous(memory_format=layout) for m in scale)) for scale in output))
    found = find_candidates(output, ANCHORS, Thresholds(conf, classes=classes), activated)
    # What lies on the threshold may fall on either side by rounding.
    wanted = dense.scores > conf
    if classes is not None:
        wanted &= torch.isin(dense.class_ids, torch.tensor(classes, dtype=torch.long))
    expected = Candidates(
        wanted.nonzero()[:, 0], box_convert(dense.boxes[wanted], "cxcywh", "xyxy"), dense.scores[wanted],
        dense.class_ids[wanted],
    )  # fmt: skip
    # In the order of images, stride 16 first as before.
    order = found.images.argsort(kind="stable")
    found = Candidates(*(torch.from_numpy(values[order]) for values in found))
    if (dense.scores - conf).abs().min() > 1e-6:
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.class_ids, expected.class_ids)
        torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6), st.floats(0.1, 0.9))
def test_each_image_is_suppressed_as_torchvision_does_it(seed, conf, iou):
    candidates = find_candidates(random_output(seed), ANCHORS, Thresholds(conf))
    for image, kept in enumerate(suppress(candidates, 2, Thresholds(iou=iou))):
        boxes, scores, labels = (
            torch.from_numpy(values[candidates.images == image]).double() for values in candidates[1:]
        )
        # One class at a time: torchvision's batched_nms lets classes overlap where coordinates are negative.
        found = [torch.nonzero(labels == label).flatten() for label in labels.unique()]
        found = [indices[nms(boxes[indices], scores[indices], iou)] for indices in found]
        best = torch.cat(found) if found else torch.zeros(0, dtype=torch.long)
        best = best[scores[best].argsort(descending=True, stable=True)][:300]
        expected = torch.cat((boxes, scores[:, None], labels[:, None]), 1)[best].float()
        np.testing.assert_array_equal(kept, expected.numpy())


sides = (st.integers(0, 9), st.integers(0, 9))
whole_box = st.tuples(st.integers(0, 9), st.integers(0, 9), *sides).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(whole_box, st.integers(1, 6), st.integers(0, 2)), max_size=35),
    st.sampled_from([0.0, 0.09, 0.23, 0.41, 0.53, 1.0]),
)
def test_one_image_is_suppressed_as_torchvision_does_it(found, iou):
    # Whole numbers: boxes without area, and many equal boxes and scores. No overlap equals a threshold, where rounding
    # would decide.
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    scores, labels = np.array([row[1:] for row in found], np.float32).reshape(-1, 2).T
    candidates = Candidates(np.zeros(len(found), int), boxes, scores / 10, labels.astype(int))
    (kept,) = suppress(candidates, 1, Thresholds(iou=iou))
    doubles = torch.from_numpy(boxes).double(), torch.from_numpy(candidates.scores).double()
    best = batched_nms(*doubles, torch.from_numpy(candidates.class_ids), iou).numpy()
    rows = np.concatenate((boxes, candidates.scores[:, None], labels[:, None]), 1)
    np.testing.assert_array_equal(kept, rows[best])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9), st.floats(0.1, 0.9))
def test_what_is_kept_is_sorted_confident_and_apart(seed, conf, iou):
    for kept in detect(random_output(seed), ANCHORS, Thresholds(conf, iou)):
        assert (kept[:, 4] > conf).all()
        assert (kept[:-1, 4] >= kept[1:, 4]).all()
        overlap = xyxy_iou_matrix(kept[:, :4], kept[:, :4])
        np.fill_diagonal(overlap, 0)
        same_class = kept[:, None, 5] == kept[None, :, 5]
        # The slack is what overlaps cost in float32 here.
        assert (overlap[same_class] <= iou + 1e-5).all()


@given(seed=st.integers(0, 2**31), limit=st.floats(-3, 3), dtype=st.sampled_from((torch.float32, torch.float16)))
def test_a_gpu_selects_the_same_cells(seed, limit, dtype):
    """The functions for a GPU work on any device."""
    for scale in random_output(seed):
        scale = ScaleOutput(*(tensor.to(dtype) for tensor in scale))
        for found, expected in zip(_select_on_device(scale, limit), _select_on_host(scale, limit), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype


def test_boxes_cannot_leave_the_range_of_the_formula():
    large = torch.full((1, 4), 40.0).sigmoid()
    ((cx, _, width, _),) = decode_boxes(large, torch.zeros(1, 2), torch.tensor(ANCHORS[0][:1]), 16).tolist()
    assert cx == pytest.approx(1.5 * 16)
    assert width == pytest.approx(4 * ANCHORS[0][0][0])
    assert math.isfinite(width)
