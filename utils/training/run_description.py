"""What a run is made of, saved in its checkpoints, and the check that --resume continues the same run."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from utils.dataset.index import DatasetIndex
from utils.errors import InputError, warn
from utils.evaluation.evaluate import Evaluation
from utils.provenance import git_state, versions
from utils.training.recipe import Recipe
from utils.training.settings import Settings
from utils.weights.model_description import ModelDescription

_ADDED = ("start", "class thresholds")  # entries of "training" that a run adds after it has started
# Entries of the description that --resume must not change.
_FIXED = ("model_name", "names", "anchors", "width", "height", "recipe", "recipe values", "training images")


def describe_model(settings: Settings, train: DatasetIndex) -> dict[str, Any]:
    """Describe the model of a run and how it is trained, as plain values, for its weights files."""
    copied = ("epochs", "batch_size", "learning_rate", "weights", "seed", "amp", "ema", "freeze_backbone")
    values = {**vars(settings.options), **vars(settings)}
    training = {
        "recipe": settings.recipe_name,
        "recipe values": dataclasses.asdict(settings.recipe),
        "training images": _digest(train),
        "train": str(train.source),
        **{name: values[name] for name in copied},
        "git": git_state(),
        "versions": versions(),
    }
    content = {**ModelDescription.from_config(settings.config).to_dict(), "training": training}
    return json.loads(json.dumps(content))  # tuples become lists


def _digest(index: DatasetIndex) -> str:
    """Return the count of the images and a hash of their names without folders, which may be moved."""
    names = "\n".join(os.path.basename(path) for path in index.images)
    return f"{len(index)} images, {hashlib.sha256(names.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def describe_thresholds(description: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    """Add the score thresholds with the best F1: of all classes together, which becomes the default, and per class.

    A detector that finds nothing has none; the description keeps its default then.
    """
    best = {row.name: row.threshold for row in evaluation.coco.classes if not math.isnan(row.threshold)}
    overall = evaluation.coco.overall.threshold
    conf = {} if math.isnan(overall) else {"conf": overall}
    return {**description, **conf, "training": {**description["training"], "class thresholds": best}}


def keep_entries(description: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the entries that the run has added so far from the description of its checkpoint."""
    before = getattr(saved["model"], "description", None) or {}
    training = {key: value for key, value in before.get("training", {}).items() if key in _ADDED}
    conf = {"conf": before["conf"]} if "conf" in before else {}
    return {**description, **conf, "training": {**description["training"], **training}}


def check_unchanged(saved: Mapping[str, Any], description: Mapping[str, Any]) -> None:
    """Check that a checkpoint was made with the classes, anchors, input size, recipe and images in force now.

    Raises:
        InputError: they differ.
    """
    before = getattr(saved["model"], "description", None)
    if before is None:
        warn(f"{saved['path']}: does not say what it was trained with, so changes since then are not noticed")
        return
    flat_before, flat_now = ({**content, **content["training"]} for content in (before, description))
    # Older checkpoints have values that recipes no longer have, because they were the same in all of them. Values that
    # they lack had the default.
    recipe = flat_before.get("recipe values", {})
    flat_before["recipe values"] = {
        field.name: recipe.get(field.name, field.default) for field in dataclasses.fields(Recipe)
    }
    for key in _FIXED:
        difference = _describe_difference(flat_before.get(key), flat_now[key])
        if difference:
            raise InputError(
                f"{saved['path']}: {key}: {difference}. A run is resumed without changes; "
                f"this starts a new run from its weights: --weights {saved['path']}"
            )


def _describe_difference(before: object, now: object) -> str:
    """Describe the first difference of two plain values; empty if they are equal."""
    if before == now:
        return ""
    if isinstance(before, dict) and isinstance(now, dict):
        key = next(key for key in [*before, *now] if before.get(key) != now.get(key))
        return f"{key} was {before.get(key)} at the start of the run, it is {now.get(key)} now"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        position = next(index for index, value in enumerate(before) if value != now[index])
        return f"entry {position + 1} was {before[position]} at the start of the run, it is {now[position]} now"
    return f"was {before} at the start of the run, is {now} now"
