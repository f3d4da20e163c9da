"""How a detector is trained: the choices that are not the user's data, by name.

`default` is the best one measured here, see benchmarks/ablation.md. `original` is that of Yolo-FastestV2's release:
SGD, warm-up by the fourth power, the learning rate divided by ten at each step, contrast and brightness as the only
augmentation.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes a training run and is neither data nor a matter of taste."""

    optimiser: str  # "sgd" or "adamw"
    rate_factor: float  # the .data file's learning rate, which is meant for SGD, times this is the recipe's
    momentum: float  # of SGD; AdamW's first beta
    weight_decay: float
    decay_all: bool  # weight decay on biases and BatchNorm's weights too
    nesterov: bool
    clip_norm: float | None  # a step's gradient is shortened to this length
    schedule: str  # "steps" of the .data file, or "cosine" to zero at the end of the run
    warmup_epochs: float  # the warm-up takes so many epochs,
    warmup_share: float  # and this share of the run
    warmup_power: float
    step_factor: float  # the learning rate is multiplied by this at each of the .data file's steps
    assignment: str  # of boxes to anchors, and with it the loss: a name in utils.losses.objectives.OBJECTIVES
    box_weight: float
    objectness_weight: float
    class_weight: float
    scale_balance: tuple[float, float]  # of objectness at stride 16 and 32, where the assignment is by ratio
    objectness_prior: float | None  # what an untrained network gives as objectness; None: whatever it gives
    augmentation: str  # a name in utils.dataset.augment.AUGMENTATIONS
    ending_augmentation: str  # another one that takes its place
    ending_share: float  # in the last epochs, this share of the run
    drop_last: bool  # leave out an epoch's last batch when it is not full
    ema: bool  # evaluate and save an average of the weights over the last steps


DEFAULT = "default"
RECIPES = {
    DEFAULT: Recipe(
        optimiser="adamw",
        rate_factor=6.0,
        momentum=0.9,
        weight_decay=0.05,
        decay_all=False,
        nesterov=False,
        clip_norm=35.0,
        schedule="cosine",
        warmup_epochs=0,
        warmup_share=0.05,
        warmup_power=1,
        step_factor=0.1,
        assignment="cost",
        box_weight=1.5,
        objectness_weight=1.0,
        class_weight=0.5,
        scale_balance=(1.0, 1.0),
        objectness_prior=0.02,
        augmentation="flip_zoom_colour",
        ending_augmentation="flip_colour",
        ending_share=0.15,
        drop_last=True,
        ema=False,
    ),
    "original": Recipe(
        optimiser="sgd",
        rate_factor=1.0,
        momentum=0.949,
        weight_decay=0.0005,
        decay_all=True,
        nesterov=False,
        clip_norm=None,
        schedule="steps",
        warmup_epochs=5,
        warmup_share=0,
        warmup_power=4,
        step_factor=0.1,
        assignment="ratio",
        box_weight=3.2,
        objectness_weight=64.0,
        class_weight=32.0,
        scale_balance=(1.0, 0.4),
        objectness_prior=None,
        augmentation="contrast_brightness",
        ending_augmentation="contrast_brightness",
        ending_share=0,
        drop_last=True,
        ema=False,
    ),
}


def learning_rate(recipe, base, steps, step, steps_per_epoch, epochs):
    """The learning rate of one optimiser step, a pure function, so that a resumed run has the same.

    Args:
        recipe: Recipe.
        base: learning rate after the warm-up.
        steps: epochs after which the rate is multiplied by recipe.step_factor, with that schedule.
        step: optimiser steps made before this one, over the whole run.
        steps_per_epoch: optimiser steps an epoch.
        epochs: of the whole run.
    """
    total = epochs * steps_per_epoch
    warmup = recipe.warmup_epochs * steps_per_epoch + recipe.warmup_share * total
    if step <= warmup and warmup > 0:
        return base * (step / warmup) ** recipe.warmup_power
    if recipe.schedule == "cosine":
        return base * (1 + math.cos(math.pi * min(1, (step - warmup) / (total - warmup)))) / 2
    epoch = step // steps_per_epoch
    return base * recipe.step_factor ** sum(epoch >= milestone for milestone in steps)
