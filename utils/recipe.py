"""How a detector is trained: the choices that are not the user's data, by name.

`original` is the recipe of Yolo-FastestV2's release: SGD, warm-up by the fourth power, the learning rate
divided by ten at each step, contrast and brightness as the only augmentation.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Learning rates come from the .data file; everything else that shapes a training run is here."""

    momentum: float
    weight_decay: float
    nesterov: bool
    warmup_epochs: float
    warmup_power: float
    step_factor: float  # the learning rate is multiplied by this at each of the .data file's steps
    box_weight: float
    objectness_weight: float
    class_weight: float
    scale_balance: tuple[float, float]  # of objectness at stride 16 and 32
    augmentation: str  # a name in utils.augment.AUGMENTATIONS
    drop_last: bool  # leave out an epoch's last batch when it is not full
    ema: bool  # evaluate and save an average of the weights over the last steps


RECIPES = {
    "original": Recipe(
        momentum=0.949,
        weight_decay=0.0005,
        nesterov=False,
        warmup_epochs=5,
        warmup_power=4,
        step_factor=0.1,
        box_weight=3.2,
        objectness_weight=64.0,
        class_weight=32.0,
        scale_balance=(1.0, 0.4),
        augmentation="contrast_brightness",
        drop_last=True,
        ema=False,
    ),
}


def learning_rate(recipe, base, steps, step, steps_per_epoch):
    """The learning rate of one optimiser step, a pure function, so that a resumed run has the same.

    Args:
        recipe: Recipe.
        base: learning rate after the warm-up.
        steps: epochs after which the rate is multiplied by recipe.step_factor.
        step: optimiser steps made before this one, over the whole run.
        steps_per_epoch: optimiser steps an epoch.
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step <= warmup and warmup > 0:
        return base * (step / warmup) ** recipe.warmup_power
    epoch = step // steps_per_epoch
    return base * recipe.step_factor ** sum(epoch >= milestone for milestone in steps)
