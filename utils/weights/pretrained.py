"""The weights that a training run starts from."""

import math
from pathlib import Path

from torch import nn

from utils.errors import RunError, warn
from utils.files import find_path
from utils.weights.checkpoint import load_matching
from utils.weights.download import MANIFEST, obtain

BACKBONE = MANIFEST.parent / "backbone.pth"
SCRATCH = "scratch"
_SHOWN = 4  # names of skipped tensors


def start_weights(detector, source, folder):
    """Fill a new detector.

    Args:
        detector: Detector.
        source: path of a weights file: a backbone, a detector, or a detector of other classes or anchors, of which
            everything that fits is taken; "scratch" for none; None for the ImageNet backbone, which is downloaded if
            it is not there. Where that fails, a warning says so and the weights stay random.
        folder: where a relative path is looked for if not in the working directory.
    Returns:
        str, one line that says what was done.
    Raises:
        InputError: the file cannot be read, or nothing in it fits. RunError: a listed file cannot be downloaded.
    """
    if source == SCRATCH:
        return "random weights (scratch)"
    if source is None:
        try:
            load_matching(detector, obtain(BACKBONE))
        except RunError as error:
            warn(f"starting from random weights, which costs many epochs and much accuracy: {error}")
            return "random weights, for want of the ImageNet backbone"
        return f"{BACKBONE.name}: the ImageNet backbone; the rest is random"
    path = find_path(source, (Path(), folder))
    skipped = load_matching(detector, obtain(path))
    return f"{path}{_about(skipped)}"


def set_objectness_prior(detector, prior):
    """Let a new detector begin with the objectness that most anchors will have, instead of unlearning 0.5 first.

    See Lin et al. 2017, arXiv:1708.02002, section 3.3.

    Args:
        detector: Detector.
        prior: objectness, between 0 and 1.
    """
    nn.init.constant_(detector.output_obj_layers.bias, math.log(prior / (1 - prior)))


def _about(skipped):
    if not skipped:
        return ""
    more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    tensors = "tensor that does" if len(skipped) == 1 else "tensors that do"
    return f"; skipped {len(skipped)} {tensors} not fit: {', '.join(skipped[:_SHOWN])}{more}"
