"""The losses of the two recipes. Both are classes with the same three methods:

prepared = loss.prepare(targets, image_size)     # everything that does not depend on the network's outputs
count = loss.count(prepared)                     # divisor of the loss, to be summed over all parts of a batch
losses = loss(output, prepared, count, share)    # Losses of one part of a batch
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from utils.losses.original import OriginalLoss
    from utils.losses.simota import SimotaLoss
    from utils.postprocess import Anchors
    from utils.training.recipe import Recipe


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


def constant(values: object, like: torch.Tensor) -> torch.Tensor:
    """Create a tensor with the dtype and device of `like`. Unlike `new_tensor` this does not wait for a CUDA device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
