"""The optimizer of a recipe, and its learning rate schedule."""

import math

import torch
from torch import nn

from utils.training.recipe import Recipe

SECOND_BETA = 0.999  # of AdamW


def build_optimizer(model: nn.Module, recipe: Recipe, learning_rate: float) -> torch.optim.Optimizer:
    """Create the recipe's optimizer for all weights of a model.

    Frozen weights are included, so that a run can be resumed with or without --freeze-backbone. They have no gradient
    and do not change.
    """
    weights = list(model.parameters())
    if recipe.decay_all:
        groups = [{"params": weights, "weight_decay": recipe.weight_decay}]
    else:
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
        ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(recipe.momentum, SECOND_BETA), foreach=True)
    return torch.optim.SGD(groups, lr=learning_rate, momentum=recipe.momentum)


def learning_rate_at(
    step: int, recipe: Recipe, base: float, milestones: tuple[int, ...], steps_per_epoch: int, epochs: int
) -> float:
    """Compute the learning rate of one optimizer step. It depends only on the step, so it is the same in a resumed run.

    Args:
        step: optimizer steps of the whole run before this one.
        base: learning rate after the warm-up.
        milestones: epochs after which the rate is multiplied by `recipe.step_factor` (schedule "steps").
        epochs: epochs of the whole run.
    """
    total = epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch + recipe.warmup_share * total
    if step <= warmup and warmup > 0:
        return base * (step / warmup) ** recipe.warmup_power
    if recipe.schedule == "cosine":
        return base * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup)))) / 2
    epoch = step // steps_per_epoch
    return base * recipe.step_factor ** sum(epoch >= milestone for milestone in milestones)
