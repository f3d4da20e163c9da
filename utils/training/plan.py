"""Batch size and epochs for the size of a data set."""

from typing import NamedTuple

# At batch 32, mask (610 images) has an AP50 of 0.60 after 800 steps and 0.66 after 3,800, helmet (1,868 images)
# 0.65 after 800 and 0.76 after 4,640. 3,000 steps take 20 to 30 minutes on two CPU cores.
STEPS = 3000
BATCH, LARGE_BATCH = 32, 128
LARGE_SET = 10_000  # images from which LARGE_BATCH is used
MIN_BATCHES = 8  # per epoch; a smaller set gets smaller batches, but not below MIN_BATCH
MIN_BATCH = 8  # smaller batches make the statistics of BatchNorm too noisy
MIN_EPOCHS, MAX_EPOCHS = 30, 300


class Schedule(NamedTuple):
    """How long to train."""

    batch_size: int
    epochs: int
    steps: tuple[int, int]  # see `milestones`


def plan(images: int) -> Schedule:
    """Plan about STEPS optimizer steps for a training set of this many images, 1 or more."""
    batch_size = LARGE_BATCH if images >= LARGE_SET else BATCH
    while batch_size > MIN_BATCH and batch_size * MIN_BATCHES > images:
        batch_size //= 2
    batch_size = min(batch_size, images)
    epochs = 10 * round(STEPS / (images // batch_size) / 10)
    epochs = min(max(epochs, MIN_EPOCHS), MAX_EPOCHS)
    return Schedule(batch_size, epochs, milestones(epochs))


def milestones(epochs: int) -> tuple[int, int]:
    """Return the epochs after which a run of the recipe "original" divides its learning rate by 10."""
    return epochs * 2 // 3, epochs * 7 // 8
