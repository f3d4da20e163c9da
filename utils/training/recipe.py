"""Recipes: how a detector is trained, apart from the user's data and options.

`original` is the recipe of Yolo-FastestV2's release: SGD, a warm-up of the learning rate with the fourth
power of the step, then a division by 10 at each milestone, and contrast and brightness as the only augmentation.
`default` is this project's recipe. benchmarks/ablation.md shows the effect of single choices; most were measured at the
earlier learning rate 0.006, after 20 epochs on one data set with one seed.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes a training run except the data and the options of train.py."""

    loss: str  # "simota" or "original", see utils.losses
    box_weight: float
    objectness_weight: float
    class_weight: float
    optimizer: str  # "adamw" or "sgd"
    rate_factor: float  # multiplies the .data file's learning rate, which is meant for SGD
    momentum: float  # of SGD; the first beta of AdamW
    weight_decay: float
    schedule: str  # "cosine" to zero at the end of the run, or "steps" at the milestones of the .data file
    start: tuple[str, ...]  # released weights to start from, in order of preference
    augmentation: str  # a name in utils.dataset.augment.AUGMENTATIONS
    last_augmentation: str  # replaces `augmentation` in the last epochs
    last_share: float = 0.0  # fraction of the epochs with `last_augmentation`
    decay_all: bool = False  # apply weight decay to biases and BatchNorm weights too
    clip_norm: float | None = None  # maximum norm of the gradient of a step
    warmup_epochs: float = 0.0  # epochs of the warm-up
    warmup_share: float = 0.0  # added to the warm-up, as a fraction of the run
    warmup_power: float = 1.0  # the learning rate grows with this power of the step
    scale_balance: tuple[float, float] = (1.0, 1.0)  # weight of the objectness loss per scale, in the loss "original"
    objectness_prior: float | None = None  # objectness of an untrained network; None leaves the random value
    focal_power: float = 0.0  # β of the quality focal loss, in the loss "simota"; 0 is the binary cross-entropy
    ema: bool = False  # evaluate and save the EMA of the weights


DEFAULT = "default"
COCO = "coco2017-0.241078ap-model.pth"  # names in modelzoo/
BACKBONE = "backbone.pth"
BUNDLED = "helmet-352.pth"  # part of the project, for machines that cannot download the released weights
RECIPES = {
    DEFAULT: Recipe(
        loss="simota",
        box_weight=1.5,
        objectness_weight=1.0,
        class_weight=0.5,
        optimizer="adamw",
        rate_factor=3.0,
        momentum=0.9,
        weight_decay=0.05,
        schedule="cosine",
        start=(COCO, BACKBONE, BUNDLED),
        augmentation="flip_zoom_colour",
        last_augmentation="flip_colour",
        last_share=0.15,
        clip_norm=35.0,
        warmup_share=0.05,
        objectness_prior=0.02,
        focal_power=1.0,
    ),
    "original": Recipe(
        loss="original",
        box_weight=3.2,
        objectness_weight=64.0,
        class_weight=32.0,
        optimizer="sgd",
        rate_factor=1.0,
        momentum=0.949,
        weight_decay=0.0005,
        schedule="steps",
        start=(BACKBONE,),
        augmentation="contrast_brightness",
        last_augmentation="contrast_brightness",
        decay_all=True,
        warmup_epochs=5.0,
        warmup_power=4.0,
        scale_balance=(1.0, 0.4),
    ),
}
