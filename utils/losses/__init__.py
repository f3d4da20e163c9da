"""The losses of the two recipes. Both are classes with the same three methods:

prepared = loss.prepare(targets, image_size)     # everything that does not depend on the network's outputs
count = loss.count(prepared)                     # divisor of the loss, to be summed over all parts of a batch
losses = loss(output, prepared, count, share)    # Losses of one part of a batch

Nothing in them waits for a CUDA device, and with padded targets all shapes are the same in each step, so a step can
be recorded as a CUDA graph.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from utils.losses.original import OriginalLoss
    from utils.losses.simota import SimotaLoss
    from utils.postprocess import Anchors
    from utils.training.recipe import Recipe

PADDING = -1  # class id of a target that only fills up the batch; it matches nothing and is not counted


class Losses(NamedTuple):
    """Weighted losses, each a scalar tensor; `total` is their sum."""

    total: torch.Tensor
    box: torch.Tensor
    objectness: torch.Tensor
    classes: torch.Tensor


def weighted(box: torch.Tensor, objectness: torch.Tensor, classes: torch.Tensor) -> Losses:
    """Return three weighted losses and their sum."""
    return Losses(box + objectness + classes, box, objectness, classes)


def build_loss(recipe: Recipe, anchors: Anchors) -> OriginalLoss | SimotaLoss:
    """Create the loss that a recipe names."""
    from utils.losses.original import OriginalLoss
    from utils.losses.simota import SimotaLoss

    return {"original": OriginalLoss, "simota": SimotaLoss}[recipe.loss](recipe, anchors)


def pad_targets(targets: torch.Tensor, rows: int) -> torch.Tensor:
    """Append targets that match nothing to [M, 6] targets, up to `rows`."""
    padding = constant((0, PADDING, 0.5, 0.5, 0.5, 0.5), targets)
    return torch.cat((targets, padding.expand(rows - len(targets), -1)))


def constant(values: tuple, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the dtype and device of `like`; not to be written to.

    It is created once per process: a CUDA graph cannot copy values from the host.
    """
    return _constant(values, like.dtype, like.device)


@functools.cache
def _constant(values: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype, device=device)
