"""The data of a training run: its two lists, and the loaders of what this process trains and evaluates on."""

import math
from dataclasses import dataclass

from torch.utils.data import DataLoader

from utils.dataset.augment import AUGMENTATIONS
from utils.dataset.dataset import DatasetIndex, DetectionDataset, load_index, make_loader
from utils.dataset.sampler import EvaluationBatches, TrainBatches
from utils.dataset.statistics import warn_of_doubts
from utils.errors import InputError, warn
from utils.training import distributed

EVAL_BATCH = 32


@dataclass(frozen=True)
class RunData:
    train: DetectionDataset  # augmented; set_epoch chooses how
    val: DetectionDataset
    batches: TrainBatches
    train_loader: DataLoader
    val_loader: DataLoader

    @property
    def indices(self):
        """{"train" or "val": DatasetIndex}"""
        return {"train": self.train.index, "val": self.val.index}


def load_data(settings, device):
    """Open both lists of a run, and say what is doubtful in them.

    Args:
        settings: Settings.
        device: torch.device that the images will go to.
    Returns:
        RunData.
    Raises:
        InputError: no list, no images, no boxes to learn, malformed labels, fewer images than parts of a batch.
    """
    config = settings.config
    indices = {key: _open(config, key) for key in ("train", "val")}
    if not any(map(len, indices["train"].labels)):
        raise InputError(
            f"{config.train}: expected images with boxes to learn from, got {len(indices['train'])} without"
        )
    for key, index in indices.items():
        warn_of_doubts(key, index, config)
    frame = (config.width, config.height)
    recipe = settings.recipe
    train = DetectionDataset(
        indices["train"],
        *frame,
        settings.cache,
        AUGMENTATIONS[recipe.augmentation],
        settings.seed,
        corrupt="replace",
        ending=(math.ceil(settings.epochs * (1 - recipe.ending_share)), AUGMENTATIONS[recipe.ending_augmentation]),
    )
    val = DetectionDataset(indices["val"], *frame, settings.cache, corrupt="blank")
    processes = {"rank": distributed.rank(), "processes": distributed.world_size()}
    batches = TrainBatches(
        len(train), settings.batch_size, settings.subdivisions, settings.seed, recipe.drop_last, **processes
    )
    if batches.batch_size < settings.batch_size:
        warn(f"batch size {batches.batch_size} instead of {settings.batch_size}: there are no more images")
    pin = device.type == "cuda"
    return RunData(
        train=train,
        val=val,
        batches=batches,
        train_loader=make_loader(train, batches, settings.workers, pin),
        val_loader=make_loader(val, EvaluationBatches(len(val), EVAL_BATCH, **processes), settings.workers, pin),
    )


def _open(config, key) -> DatasetIndex:
    source = getattr(config, key)
    if source is None:
        raise InputError(f"{config.path}: {key}: expected a list of images, got None")
    return load_index(source, config.classes)
