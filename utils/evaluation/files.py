"""What an evaluation leaves behind: its figures as JSON, its detections, its plots."""

import dataclasses
import importlib.metadata
import json
import math
import os

from utils.errors import InputError
from utils.evaluation.coco import COCO_MAX_DET
from utils.evaluation.confusion import confusion_matrix, count_mistakes
from utils.files import check_writable, new_folder, write_text
from utils.provenance import git_state, versions
from utils.weights.checkpoint import weights_hash


def check_files(options, config):
    """Find out before the long work whether `write_files` can write what the options ask for.

    Raises:
        InputError: it cannot.
    """
    files = [path for path in (options.json, options.save_detections) if path]
    if len({os.path.realpath(path) for path in files}) < len(files):
        raise InputError(f"--json and --save-detections: expected two files, got {files[0]} for both")
    for path in files:
        check_writable(path)
    if options.plots:
        new_folder(options.output, config.model_name).rmdir()


def write_files(evaluation, options, config, index, device):
    """Write the files that evaluation.py's options ask for.

    Returns:
        list of the paths written.
    """
    written = []
    if options.json:
        content = metrics_content(evaluation, options, config, index, device)
        write_text(options.json, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        written.append(options.json)
    if options.save_detections:
        write_text(options.save_detections, json.dumps(evaluation.results) + "\n")
        written.append(options.save_detections)
    if options.plots:
        written += write_plots(new_folder(options.output, config.model_name), evaluation, config, index)
    return written


def write_plots(folder, evaluation, config, index):
    """Precision-recall curves, F1 over the threshold, the confusion matrix, and the images with the most mistakes.

    Returns:
        list of the paths written.
    """
    from utils.plots.evaluation import save_plots
    from utils.plots.fonts import class_labels
    from utils.plots.training import save_worst

    frame = (config.width, config.height)
    matrix = confusion_matrix(evaluation.detections, index.labels, frame, config.classes)
    labels = class_labels(config.class_names)
    written = save_plots(folder, evaluation.coco, matrix, labels)
    worst = folder / "worst.jpg"
    mistakes = count_mistakes(evaluation.detections, index.labels, frame, config.classes)
    save_worst(worst, index, evaluation.detections, frame, labels, mistakes)
    return [*written, worst] if worst.exists() else written


def metrics_content(evaluation, options, config, index, device):
    """Figures and how they were made, as plain values for JSON; a figure that is not defined is null."""
    coco = evaluation.coco
    return {
        "original": _plain(dataclasses.asdict(evaluation.original)),
        "coco": _plain(coco.figures),
        "all": _plain(coco.overall._asdict()),
        "classes": [_plain(row._asdict()) for row in coco.classes],
        "made_with": {
            "data": str(config.path),
            "val": str(config.val),
            "images": len(index),
            "weights": str(options.weights),
            "weights_sha256": weights_hash(options.weights),
            "width": config.width,
            "height": config.height,
            "conf": options.conf,
            "iou": options.iou,
            "max_det": options.max_det,
            "coco_max_det": COCO_MAX_DET,
            "batch_size": options.batch_size,
            "device": str(device),
            "git": git_state(),
            "versions": {**versions(), "pycocotools": importlib.metadata.version("pycocotools")},
        },
    }


def _plain(figures):
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in figures.items()}
