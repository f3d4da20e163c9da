"""The metrics as text tables and as JSON."""

import dataclasses
import importlib.metadata
import math

from utils.config import Config
from utils.dataset.index import DatasetIndex
from utils.evaluation.coco import COCO_MAX_DET, COCO_METRICS, CocoMetrics
from utils.evaluation.evaluate import Evaluation
from utils.provenance import file_hash, git_state, versions
from utils.runtimes.loading import model_files
from utils.text import align_columns

UNDEFINED = "–"  # printed for NaN


def metrics_text(evaluation: Evaluation) -> str:
    """All metrics as printed by evaluation.py: the original's line, as its scripts print it, then the two tables."""
    original = evaluation.original
    return (
        "the original's definition:\n"
        f"Precision:{original.precision:.6f} Recall:{original.recall:.6f} "
        f"AP:{original.ap:.6f} F1:{original.f1:.6f}\n\n"
        f"{summary_table(evaluation.coco.summary)}\n\n{class_table(evaluation.coco)}"
    )


def summary_table(summary: dict[str, float]) -> str:
    """One line per COCO metric: name, value, meaning."""
    return align_columns(
        [[name, _decimal(summary[name], 4), meaning] for name, meaning in COCO_METRICS.items()], left=(0, 2)
    )


def class_table(coco: CocoMetrics) -> str:
    """One line per class and one for all classes."""
    rows = [["class", "images", "labels", "AP", "AP50", "best F1", "at score"]]
    for row in (*coco.classes, coco.overall):
        values = [_decimal(value, 4) for value in (row.ap, row.ap50, row.f1)]
        rows.append([row.name, str(row.images), str(row.labels), *values, _decimal(row.threshold, 3)])
    return align_columns(rows)


def _decimal(value: float, places: int) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.{places}f}"


def metrics_content(
    evaluation: Evaluation, index: DatasetIndex, config: Config, weights: str, device: str, settings: dict
) -> dict:
    """All metrics and how they were computed, as plain values for JSON; undefined metrics are null."""
    coco = evaluation.coco
    return {
        "original": _null_for_nan(dataclasses.asdict(evaluation.original)),
        "coco": _null_for_nan(coco.summary),
        "all": _null_for_nan(coco.overall._asdict()),
        "classes": [_null_for_nan(row._asdict()) for row in coco.classes],
        "made_with": {
            "data": str(config.path),
            "val": str(index.source),
            "images": len(index),
            "weights": weights,
            # Of the file itself: the hash in an exported model is that of the .pth file, for int8 too.
            "weights_sha256": file_hash(model_files(weights)[-1]),
            "width": config.width,
            "height": config.height,
            **settings,
            "coco_max_det": COCO_MAX_DET,
            "device": device,
            "git": git_state(),
            "versions": {**versions(), "pycocotools": importlib.metadata.version("pycocotools")},
        },
    }


def _null_for_nan(metrics: dict) -> dict:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in metrics.items()}
