"""Files of a training run: args.json, results.csv, TensorBoard events."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import warn
from utils.files import write_text
from utils.losses import Losses
from utils.provenance import file_hash, git_state, versions
from utils.training.progress import Progress
from utils.training.settings import Settings, describe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = ("AP50", "AP", "precision", "recall", "original_AP", "F1", "conf")
COLUMNS = ("epoch", "step", "learning_rate", *Losses._fields, "images_per_second", *METRICS)


def write_arguments(folder: Path, settings: Settings, progress: Progress) -> None:
    """Write args.json: the settings, and the data, code and package versions that the run uses.

    Args:
        progress: of the run at this moment; its next step is the first one with these settings.
    """
    lists = {
        name: file_hash(path)
        for name, path in (("train", settings.config.train), ("val", settings.config.val))
        if path and path.is_file()
    }
    content = {
        "settings": describe(settings),
        "classes": settings.config.class_names,
        "since": {"epoch": progress.epoch, "step": progress.step},
        "lists_sha256": lists,
        "git": git_state(),
        "versions": versions(),
    }
    write_text(folder / "args.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_results(folder: Path, history: list[dict]) -> None:
    """Write results.csv, one row per epoch. The metrics of epochs without evaluation are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "results.csv", text.getvalue())


def open_events(folder: Path, history: list[dict]) -> SummaryWriter | None:
    """Open a TensorBoard writer, and write the epochs of the run so far. TensorBoard hides what was written before.

    Returns:
        The writer; None, with a warning, if tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warn("no TensorBoard events: the package tensorboard is not installed (pip install tensorboard)")
        return None
    events = SummaryWriter(folder, purge_step=0)
    for row in history:
        write_events(events, row)
    return events


def write_events(events: SummaryWriter | None, row: dict) -> None:
    """Write one epoch's row to TensorBoard, with the epoch as x-axis: the steps per epoch may change on --resume."""
    if events is None:
        return
    groups = {**dict.fromkeys(Losses._fields, "loss/"), **dict.fromkeys(METRICS, "metrics/")}
    for name, value in row.items():
        if name not in ("epoch", "step"):
            events.add_scalar(groups.get(name, "") + name, value, row["epoch"])
    events.flush()
