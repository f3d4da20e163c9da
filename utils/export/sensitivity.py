"""Choose the layers that stay in floating point, because int8 changes the predictions too much there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from tqdm import tqdm

from model import DetectorOutput, ScaleOutput
from utils.boxes import paired_iou
from utils.config import EVAL_CONF
from utils.export.graph import Predictions, decode
from utils.postprocess import Anchors
from utils.runtimes.exported import split_maps

TOLERANCE = 0.03  # `disagreement` above which a layer stays in floating point
MAX_FLOAT_WEIGHTS = 0.15  # fraction of all weights that may stay in floating point; keeps int8 files small
MIN_SCORE = EVAL_CONF  # weaker predictions are not compared; evaluation.py ignores them by default too
IMAGES = 16  # enough to rank the layers


def choose_float_layers(
    sizes: dict[str, int], predict: Callable[[Sequence[str]], list[Predictions]]
) -> dict[str, float]:
    """Quantize each layer alone and keep the worst ones in floating point, see TOLERANCE and MAX_FLOAT_WEIGHTS.

    Args:
        sizes: number of weights of each layer that can be quantized.
        predict: predictions per image when the layers with the given names are quantized.

    Returns:
        Disagreement of each chosen layer, the worst first.
    """
    reference = predict([])
    # One layer per thread: a network runs on one thread, see `utils.runtimes.exported.ExportedRuntime`.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        values = pool.map(lambda name: disagreement(reference, predict([name])), sizes)
        progress = tqdm(values, "layers in int8", len(sizes), unit="layer", disable=None, leave=False)
        disagreements = dict(zip(sizes, progress, strict=True))
    remaining = MAX_FLOAT_WEIGHTS * sum(sizes.values())
    chosen = {}
    for name, value in sorted(disagreements.items(), key=lambda item: -item[1]):
        if value > TOLERANCE and sizes[name] <= remaining:
            chosen[name] = value
            remaining -= sizes[name]
    return chosen


def disagreement(reference: Iterable[Predictions], other: Iterable[Predictions]) -> float:
    """Compare predictions, one `Predictions` per image: 0 means equal.

    The sum over all predictions of the change of the score and of score · (1 − IoU), divided by the sum of all scores.
    Confident predictions count more. If the class changes, the other score is 0.
    """
    changed = total = 0.0
    for expected, actual in zip(reference, other, strict=True):
        compared = expected.scores > MIN_SCORE
        scores = expected.scores[compared]
        same_class = expected.class_ids[compared] == actual.class_ids[compared]
        actual_scores = torch.where(same_class, actual.scores[compared], 0)
        iou = paired_iou(expected.boxes[compared], actual.boxes[compared])
        changed += float(((scores - actual_scores).abs() + scores * (1 - iou)).sum())
        total += float(scores.sum())
    return changed / total if total else 0.0


def decode_maps(maps: Iterable[np.ndarray], anchors: Anchors) -> Predictions:
    """Decode the outputs of an exported network, each [N, H, W, 4·A + A + C]."""
    output = split_maps(maps, len(anchors[0]))
    return decode(DetectorOutput(*(ScaleOutput(*map(torch.from_numpy, scale)) for scale in output)), anchors)
