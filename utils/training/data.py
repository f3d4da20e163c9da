"""The data of a training run: its two lists, and the loaders for this process."""

import math
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from utils.dataset.augment import AUGMENTATIONS
from utils.dataset.dataset import DetectionDataset, make_loader
from utils.dataset.index import DatasetIndex, open_list
from utils.dataset.sampler import EvaluationBatches, TrainBatches
from utils.dataset.statistics import warn_about_dataset
from utils.errors import InputError, warn
from utils.training import distributed
from utils.training.settings import Settings

EVAL_BATCH = 32  # images


@dataclass(frozen=True)
class RunData:
    """Datasets and loaders of a run."""

    train: DetectionDataset  # augmented; `set_epoch` sets the random numbers
    val: DetectionDataset
    batches: TrainBatches
    train_loader: DataLoader
    val_loader: DataLoader

    @property
    def indices(self) -> dict[str, DatasetIndex]:
        """The index of each list, by "train" and "val"."""
        return {"train": self.train.index, "val": self.val.index}


def load_data(settings: Settings, device: torch.device) -> RunData:
    """Open both lists of a run, and warn about suspicious data.

    Raises:
        InputError: a list is missing or malformed, has no boxes, or has fewer images than a batch has parts.
    """
    config, recipe = settings.config, settings.recipe
    indices = {key: open_list(config, key) for key in ("train", "val")}
    if not any(map(len, indices["train"].labels)):
        raise InputError(
            f"{config.train}: expected images with boxes, got {len(indices['train'])} images without boxes"
        )
    for key, index in indices.items():
        warn_about_dataset(key, index, config)
    size = (config.width, config.height)
    last_epochs = math.ceil(settings.epochs * (1 - recipe.last_share))
    train = DetectionDataset(
        indices["train"],
        *size,
        settings.cache,
        AUGMENTATIONS[recipe.augmentation],
        settings.seed,
        corrupt="replace",
        ending=(last_epochs, AUGMENTATIONS[recipe.last_augmentation]),
    )
    val = DetectionDataset(indices["val"], *size, settings.cache, corrupt="blank")
    processes = {"rank": distributed.rank(), "processes": distributed.world_size()}
    batches = TrainBatches(
        len(train), settings.batch_size, settings.subdivisions, settings.seed, recipe.drop_last, **processes
    )
    if batches.batch_size < settings.batch_size:
        warn(f"batch size {batches.batch_size} instead of {settings.batch_size}: there are only {len(train)} images")
    pin = device.type == "cuda"
    return RunData(
        train=train,
        val=val,
        batches=batches,
        train_loader=make_loader(train, batches, settings.workers, pin),
        val_loader=make_loader(val, EvaluationBatches(len(val), EVAL_BATCH, **processes), settings.workers, pin),
    )
