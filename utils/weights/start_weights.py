"""The weights that a training run starts from."""

import math
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from model.detector import Detector
from utils.errors import RunError, warn
from utils.files import find_path
from utils.text import counted, list_names
from utils.weights import download
from utils.weights.checkpoint import load_matching

SCRATCH = "scratch"


def start_weights(detector: Detector, source: str | None, folder: Path, released: Sequence[str]) -> str:
    """Load the weights that training starts from into a new detector.

    Args:
        source: path of a weights file with a backbone or a detector, from which all tensors that fit are loaded;
            "scratch" to keep the random weights; None for the first file of `released` that can be obtained.
        folder: where a relative path is also searched, after the working directory.
        released: names of files in modelzoo/. Those in its manifest are downloaded if they are missing. If a download
            fails, a warning names the weights that are used instead: the next file or, after the last, random weights.

    Returns:
        One line that describes the weights.

    Raises:
        InputError: the file cannot be read, or none of its tensors fits.
        RunError: a listed file cannot be downloaded.
    """
    if source == SCRATCH:
        return "random weights (scratch)"
    if source is None:
        return _load_released(detector, released)
    path = find_path(source, (Path(), folder))
    return f"{path}{_describe_skipped(load_matching(detector, download.obtain(path)))}"


def _load_released(detector: Detector, names: Sequence[str]) -> str:
    """Load the first of the listed files that can be obtained; return the line that describes it."""
    failure = None
    for name in names:
        try:
            path = download.obtain(download.MANIFEST.parent / name)
        except RunError as error:
            failure = failure or error
            continue
        skipped = load_matching(detector, path)
        if failure:
            warn(f"training starts from {name}: {failure}")
        listed = download.read_manifest().get(name)
        about = listed.about if listed else "a detector that is part of this project"
        return f"{name}, {about}{_describe_skipped(skipped)}"
    warn(f"training starts from random weights and will need many more epochs: {failure}")
    return "random weights, because the released weights are missing"


def _describe_skipped(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"; skipped {counted(len(names), 'tensor')} of another shape or name: {list_names(names, shown=4)}"


def set_objectness_prior(detector: Detector, prior: float) -> None:
    """Set the initial objectness (0…1) of a new detector; it is low, because most anchors have no object.

    See Lin et al. 2017, arXiv:1708.02002, section 3.3.
    """
    nn.init.constant_(detector.output_obj_layers.bias, math.log(prior / (1 - prior)))
