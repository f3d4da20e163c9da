"""The weights that a training run starts from."""

import math
from pathlib import Path

from torch import nn

from model.detector import Detector
from utils.errors import RunError, warn
from utils.files import find_path
from utils.text import list_names
from utils.weights.checkpoint import load_matching
from utils.weights.download import MANIFEST, obtain

BACKBONE = MANIFEST.parent / "backbone.pth"
SCRATCH = "scratch"


def start_weights(detector: Detector, source: str | None, folder: Path) -> str:
    """Load the weights that training starts from into a new detector.

    Args:
        detector: detector with random weights.
        source: path of a weights file with a backbone or a detector, from which all tensors that fit are loaded;
            "scratch" to keep the random weights; None for the ImageNet backbone, which is downloaded if it is missing.
            If that download fails, a warning is printed and the weights stay random.
        folder: where a relative path is also searched, after the working directory.

    Returns:
        One line that describes the weights.

    Raises:
        InputError: the file cannot be read, or none of its tensors fits.
        RunError: a listed file cannot be downloaded.
    """
    if source == SCRATCH:
        return "random weights (scratch)"
    if source is None:
        try:
            load_matching(detector, obtain(BACKBONE))
        except RunError as error:
            warn(f"training starts from random weights and will need many more epochs: {error}")
            return "random weights, because the ImageNet backbone is missing"
        return f"{BACKBONE.name}: the ImageNet backbone; the rest is random"
    path = find_path(source, (Path(), folder))
    skipped = load_matching(detector, obtain(path))
    if not skipped:
        return str(path)
    tensors = "tensor that does" if len(skipped) == 1 else "tensors that do"
    return f"{path}; skipped {len(skipped)} {tensors} not fit: {list_names(skipped, shown=4)}"


def set_objectness_prior(detector: Detector, prior: float) -> None:
    """Set the initial objectness (0…1) of a new detector; it is low, because most anchors have no object.

    See Lin et al. 2017, arXiv:1708.02002, section 3.3.
    """
    nn.init.constant_(detector.output_obj_layers.bias, math.log(prior / (1 - prior)))
