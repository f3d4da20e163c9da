"""The optimizer of a recipe, and its learning rate schedule."""

import math

import torch
from torch import nn

from utils.training.recipe import Recipe

SECOND_BETA = 0.999  # of AdamW
STEP_FACTOR = 0.1  # multiplies the learning rate at each milestone of the schedule "steps"


def build_optimizer(model: nn.Module, recipe: Recipe, learning_rate: float) -> torch.optim.Optimizer:
    """Create the recipe's optimizer for all weights of a model.

    Frozen weights are included, so that a run can be resumed with or without --freeze-backbone. They have no gradient
    and do not change. On CUDA the learning rate is a tensor on the device, so that a CUDA graph can contain the step.
    """
    weights = list(model.parameters())
    if recipe.decay_all:
        groups = [{"params": weights, "weight_decay": recipe.weight_decay}]
    else:
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
        ]
    cuda = weights[0].device.type == "cuda"
    rate = torch.tensor(learning_rate, device=weights[0].device) if cuda else learning_rate
    if recipe.optimizer == "adamw":
        form = {"fused": True, "capturable": True} if cuda else {"foreach": True}
        return torch.optim.AdamW(groups, lr=rate, betas=(recipe.momentum, SECOND_BETA), **form)
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum, fused=cuda)


def learning_rate_at(
    step: int, recipe: Recipe, base: float, milestones: tuple[int, ...], steps_per_epoch: int, epochs: int
) -> float:
    """Compute the learning rate of one optimizer step. It depends only on the step, so it is the same in a resumed run.

    Args:
        step: optimizer steps of the whole run before this one.
        base: learning rate after the warm-up.
        milestones: epochs after which the rate is multiplied by STEP_FACTOR (schedule "steps").
    """
    total = epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch + recipe.warmup_share * total
    if step <= warmup and warmup > 0:
        return base * (step / warmup) ** recipe.warmup_power
    if recipe.schedule == "cosine":
        return base * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup)))) / 2
    epoch = step // steps_per_epoch
    return base * STEP_FACTOR ** sum(epoch >= milestone for milestone in milestones)
