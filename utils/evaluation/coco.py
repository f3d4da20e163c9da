"""The COCO figures by pycocotools: the twelve, a row a class, the curves, and detections in COCO's results format.

A figure that is not defined, for example the AP of a class without labels, is NaN.
"""

import contextlib
import copy
import io
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

MAX_DET = 100  # detections an image and class that COCO's figures are computed from
RECALLS = np.linspace(0, 1, 101)  # where COCO takes precision
THRESHOLDS = np.arange(1001) / 1000  # where F1 is computed, so that a printed threshold is the exact one
FIGURES = (
    ("AP", "average precision, mean over IoU 0.50 to 0.95"),
    ("AP50", "average precision at IoU 0.50"),
    ("AP75", "average precision at IoU 0.75"),
    ("AP_small", "AP of objects below 32x32 pixels"),
    ("AP_medium", "AP of objects of 32x32 to 96x96 pixels"),
    ("AP_large", "AP of objects above 96x96 pixels"),
    ("AR_1", "average recall with the best detection an image and class"),
    ("AR_10", "average recall with the best 10"),
    ("AR_max", "average recall with as many as count, in COCO's own figures 100"),
    ("AR_small", "AR_max of objects below 32x32 pixels"),
    ("AR_medium", "AR_max of objects of 32x32 to 96x96 pixels"),
    ("AR_large", "AR_max of objects above 96x96 pixels"),
)


class ClassMetrics(NamedTuple):
    """One row of the table; AP at the IoUs 0.50 to 0.95, AP50 and F1 at IoU 0.5."""

    name: str
    images: int  # with labels of the class
    labels: int
    ap: float
    ap50: float
    f1: float  # the best that a score threshold gives
    threshold: float  # that threshold: detections that score above it give that F1


class Curves(NamedTuple):
    """What the plots show, at IoU 0.5; C classes, rows of classes without labels are NaN."""

    recall: np.ndarray  # [101], 0…1
    precision: np.ndarray  # [C, 101] at these recalls
    thresholds: np.ndarray  # [1001], 0…1
    f1: np.ndarray  # [C, 1001] of detections that score above these thresholds


@dataclass(frozen=True)
class CocoMetrics:
    figures: dict[str, float]  # by the names in FIGURES
    overall: ClassMetrics  # all images, all labels, means of the classes; F1 at one threshold for all classes
    classes: tuple[ClassMetrics, ...]
    curves: Curves


def coco_results(detections, ids, frame_size, image_sizes):
    """Detections in COCO's results format, which `pycocotools.coco.COCO.loadRes` reads.

    Boxes are scaled back to the image's pixels. Category id = class + 1, as by `coco_content`.

    Args:
        detections: list of N arrays or CPU tensors [n, 6], (x1, y1, x2, y2, score, class), in pixels of the frame.
        frame_size: (width, height) of the network's input in pixels.
        ids: N image ids, from `utils.dataset.coco.image_ids`.
        image_sizes: [N, 2], width and height in pixels.
    Returns:
        list of dicts for `json.dump`: image_id, category_id, bbox [x, y, w, h], score.
    """
    factors = np.asarray(image_sizes, np.float64) / frame_size
    results = []
    for image_id, rows, factor in zip(ids, detections, factors, strict=True):
        rows = np.asarray(rows, np.float64)
        corner, size = rows[:, :2] * factor, (rows[:, 2:4] - rows[:, :2]) * factor
        # A thousandth of a pixel is enough and halves the file; the figures are computed from what the file says.
        boxes, scores = np.hstack((corner, size)).round(3), rows[:, 4].round(6)
        results += [
            {"image_id": image_id, "category_id": int(number) + 1, "bbox": box, "score": score}
            for box, score, number in zip(boxes.tolist(), scores.tolist(), rows[:, 5], strict=True)
        ]
    return results


def coco_metrics(results, truth, max_det=MAX_DET):
    """The twelve COCO figures and a row a class, by pycocotools.

    Args:
        results: from `coco_results`; they are not changed.
        truth: content of a COCO annotation file, from `utils.dataset.coco.coco_content`; it is not changed.
        max_det: best detections an image and class that count; COCO's own figures are at 100.
    Returns:
        CocoMetrics, the classes in the order of their category ids.
    """
    names = dict(sorted((category["id"], category["name"]) for category in truth["categories"]))
    labels = Counter(box["category_id"] for box in truth["annotations"])
    # Counted once an image, however many objects of the class it shows.
    images = Counter(number for _, number in {(box["image_id"], box["category_id"]) for box in truth["annotations"]})
    present = [position for position, number in enumerate(names) if labels[number]]

    nan = float("nan")
    figures = {name: nan for name, _ in FIGURES}
    ap, ap50 = np.full((2, len(names)), nan)
    precision, f1 = np.full((len(names), len(RECALLS)), nan), np.full((len(names), len(THRESHOLDS)), nan)
    mean_f1 = f1[0]
    if present:
        # A class without labels has no AP and is no part of any mean.
        evaluator = _evaluate(truth, results, [number for number in names if labels[number]], max_det)
        figures, by_class = _figures(evaluator)
        ap[present], ap50[present], precision[present] = by_class.mean((0, 1)), by_class[0].mean(0), by_class[0].T
        f1[present] = _f1_curves(evaluator)
        mean_f1 = f1[present].mean(0)

    rows = zip(names.items(), ap.tolist(), ap50.tolist(), f1, strict=True)
    classes = tuple(
        ClassMetrics(name, images[number], labels[number], *aps, *_best(curve)) for (number, name), *aps, curve in rows
    )
    overall = ClassMetrics("all", len(truth["images"]), labels.total(), figures["AP"], figures["AP50"], *_best(mean_f1))
    return CocoMetrics(figures, overall, classes, Curves(RECALLS, precision, THRESHOLDS, f1))


def _evaluate(truth, results, category_ids, max_det):
    """An evaluator that has matched the detections; pycocotools' messages are swallowed."""
    # pycocotools adds its own keys to labels and results.
    content = {**truth, "annotations": [dict(box) for box in truth["annotations"]]}
    results = [dict(result) for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = _indexed(content)
        # loadRes cannot read an empty list.
        found = labelled.loadRes(results) if results else _indexed({**content, "annotations": []})
        evaluator = _Evaluator(labelled, found, "bbox")
        evaluator.params.catIds = category_ids
        evaluator.params.maxDets = [1, min(10, max_det), max_det]
        evaluator.evaluate()
    return evaluator


def _indexed(content):
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco


class _Evaluator(COCOeval):
    """COCOeval with the same result sooner, in a third of the time.

    Its matching is a loop in Python over classes, sizes, images, thresholds, detections and labels. Most images show
    few of the classes, and at a low confidence nine in ten detections overlap no label of their class enough for any
    threshold; here both skip the loop.
    """

    def evaluate(self):
        params = self.params
        params.imgIds, params.catIds = sorted(params.imgIds), sorted(params.catIds)
        self._prepare()
        pairs = {pair for boxes in (self._gts, self._dts) for pair, rows in boxes.items() if rows}
        self._all = {}  # (image, class): _Ranked
        self.ious = {pair: self.computeIoU(*pair) for pair in pairs}
        self.evalImgs = [
            self.evaluateImg(image, number, sizes, params.maxDets[-1]) if (image, number) in pairs else None
            for number in params.catIds
            for sizes in params.areaRng
            for image in params.imgIds
        ]
        self._paramsEval = copy.deepcopy(params)

    def computeIoU(self, imgId, catId):
        """Overlaps [detections near a label, labels]; all detections are put aside for `evaluateImg`."""
        pair = imgId, catId
        if not self._dts[pair]:
            return []
        ious = super().computeIoU(imgId, catId)
        ranked = sorted(self._dts[pair], key=lambda detection: -detection["score"])  # the order of the rows in ious
        ranked = ranked[: self.params.maxDets[-1]]
        near = np.flatnonzero(ious.max(1) >= self.params.iouThrs.min()) if len(ious) else np.empty(0, int)
        self._all[pair] = _Ranked(*zip(*((row["score"], row["id"], row["area"]) for row in ranked), strict=True), near)
        self._dts[pair] = [ranked[position] for position in near]
        return ious[near] if len(near) else []

    def evaluateImg(self, imgId, catId, aRng, maxDet):
        matched = super().evaluateImg(imgId, catId, aRng, maxDet)
        found = self._all.get((imgId, catId))
        if not found:
            return matched
        thresholds = len(self.params.iouThrs)
        matches = np.zeros((thresholds, len(found.areas)))
        # What matches nothing is a false positive, unless it is of a size that is not asked for.
        ignored = np.tile([not aRng[0] <= area <= aRng[1] for area in found.areas], (thresholds, 1))
        if len(found.near):
            matches[:, found.near], ignored[:, found.near] = matched["dtMatches"], matched["dtIgnore"]
        labels = matched or {"gtIds": [], "gtIgnore": np.empty(0)}
        return {**labels, "dtMatches": matches, "dtIgnore": ignored, "dtScores": found.scores, "dtIds": found.ids}


class _Ranked(NamedTuple):
    """The detections of one class in one image, best first."""

    scores: tuple[float, ...]
    ids: tuple[int, ...]
    areas: tuple[float, ...]  # in pixels
    near: np.ndarray  # positions of those that overlap a label enough for some threshold


def _figures(evaluator):
    """The twelve figures as a dict, and precision [10 IoUs, 101 recalls, classes with labels].

    COCOeval.summarize looks for the limit of 100 detections by value and gives -1 with any other.
    """
    few, some, _ = evaluator.params.maxDets
    # The lower limits only enter the recall of all sizes, so most of the accumulation can be left out.
    evaluator.params.maxDets = evaluator.params.maxDets[-1:]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0]
    values = [
        _mean(precision[..., 0]),
        _mean(precision[0, ..., 0]),
        _mean(precision[5, ..., 0]),
        *(_mean(precision[..., size]) for size in (1, 2, 3)),
        *(_mean(_recall(evaluator, limit)) for limit in (few, some)),
        *(_mean(recall[..., size]) for size in (0, 1, 2, 3)),
    ]
    return dict(zip((name for name, _ in FIGURES), values, strict=True)), precision[..., 0]


def _recall(evaluator, limit):
    """Recall [classes with labels, IoUs] with the best `limit` detections an image and class."""
    hits = [
        sum((pair["dtMatches"][:, :limit] > 0).sum(1) for pair in pairs) / labels
        for pairs, labels in _classes(evaluator)
    ]
    return np.array(hits)


def _mean(values):
    """Mean of what is defined; pycocotools writes -1 where a class has no labels of a size."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float("nan")


def _f1_curves(evaluator):
    """F1 of each class with labels over THRESHOLDS, [classes, thresholds], from the matches at IoU 0.5."""
    curves = []
    for pairs, labels in _classes(evaluator):
        scores = np.concatenate([pair["dtScores"] for pair in pairs])
        hits = np.concatenate([pair["dtMatches"][0] > 0 for pair in pairs])
        order = np.argsort(-scores)
        shown = np.searchsorted(-scores[order], -THRESHOLDS, side="left")  # detections above each threshold
        found = np.concatenate(([0], hits[order].cumsum()))[shown]
        curves.append(2 * found / (shown + labels))
    return np.array(curves)


def _classes(evaluator):
    """(results of the images with labels or detections, number of labels) of each class with labels, of all sizes."""
    images, areas = len(evaluator.params.imgIds), len(evaluator.params.areaRng)
    for position in range(len(evaluator.params.catIds)):
        # evalImgs is a flat list in the order class, area, image; the first area is all sizes.
        start = position * areas * images
        pairs = [pair for pair in evaluator.evalImgs[start : start + images] if pair]
        yield pairs, sum(len(pair["gtIds"]) for pair in pairs)


def _best(curve):
    """(highest F1, threshold that gives it, the middle one if several do); (NaN, NaN) without labels."""
    highest = curve.max()
    if not highest > 0:
        return float(highest), float("nan")
    places = np.flatnonzero(curve == highest)
    return float(highest), float(THRESHOLDS[places[len(places) // 2]])
