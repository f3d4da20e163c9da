"""The data of a training run: its two lists, and the loaders for this process."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from utils.dataset.augment import AUGMENTATIONS
from utils.dataset.dataset import DetectionDataset, make_loader
from utils.dataset.device_images import DeviceBatches
from utils.dataset.index import DatasetIndex, open_list
from utils.dataset.pixel_cache import CACHE_KINDS
from utils.dataset.sampler import TrainBatches, evaluation_batches
from utils.dataset.statistics import warn_about_dataset
from utils.errors import InputError, warn
from utils.training import distributed
from utils.training.settings import Settings

EVAL_BATCH = 32  # images
CPU_WORKERS = 2
MAX_GPU_WORKERS = 16
GPU_SHARE = 0.5  # of the GPU's free memory that images may take; training needs the rest

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # see `utils.dataset.dataset.collate`


@dataclass(frozen=True)
class RunData:
    """Datasets and loaders of a run."""

    train: DetectionDataset  # augmented; `set_epoch` sets the random numbers
    val: DetectionDataset
    batches: TrainBatches
    train_loader: Batches
    val_loader: Batches
    val_images: int  # that this process evaluates
    cache: str  # "gpu", "ram", "disk" or "none"
    workers: int  # processes that read images

    @property
    def indices(self) -> dict[str, DatasetIndex]:
        """The index of each list, by "train" and "val"."""
        return {"train": self.train.index, "val": self.val.index}


def load_data(settings: Settings, device: torch.device) -> RunData:
    """Open both lists of a run, and warn about suspicious data.

    Raises:
        InputError: a list is missing or malformed, has no boxes, or has fewer images than a batch has parts; or the
            images do not fit in the cache.
    """
    config, recipe, options = settings.config, settings.recipe, settings.options
    indices = {key: open_list(config, key) for key in ("train", "val")}
    if not any(map(len, indices["train"].labels)):
        raise InputError(
            f"{config.train}: expected images with boxes, got {len(indices['train'])} images without boxes"
        )
    for key, index in indices.items():
        warn_about_dataset(key, index, config)
    size = config.size
    last_epochs = math.ceil(settings.epochs * (1 - recipe.last_share))
    cache = choose_cache(options.cache, device, sum(map(len, indices.values())) * math.prod(size) * 3)
    stored = cache if cache in CACHE_KINDS else None
    train = DetectionDataset(
        indices["train"],
        *size,
        stored,
        AUGMENTATIONS[recipe.augmentation],
        options.seed,
        replace_corrupt=True,
        ending=(last_epochs, AUGMENTATIONS[recipe.last_augmentation]),
    )
    val = DetectionDataset(indices["val"], *size, stored)
    processes = {"rank": distributed.rank(), "processes": distributed.world_size()}
    batches = TrainBatches(len(train), settings.batch_size, config.subdivisions, options.seed, **processes)
    if batches.batch_size < settings.batch_size:
        warn(f"batch size {batches.batch_size} instead of {settings.batch_size}: there are only {len(train)} images")
    val_batches = evaluation_batches(len(val), EVAL_BATCH, **processes)
    workers = 0 if cache == "gpu" else choose_workers(options.workers, device)
    if cache == "gpu":
        loaders = [DeviceBatches(train, batches, device), DeviceBatches(val, val_batches, device)]
    else:
        pin = device.type == "cuda"
        loaders = [make_loader(train, batches, workers, pin), make_loader(val, val_batches, workers, pin)]
    return RunData(train, val, batches, *loaders, sum(map(len, val_batches)), cache, workers)


def choose_cache(wanted: str | None, device: torch.device, size: int) -> str:
    """Choose where the decoded images are kept: "gpu", "ram", "disk" or "none".

    Args:
        wanted: one of them; None chooses "gpu" if the images fit, else "none".
        device: that trains.
        size: of all decoded images, in bytes.

    Raises:
        InputError: "gpu" is wanted, but there is none, or it does not have enough free memory.
    """
    if wanted not in (None, "gpu"):
        return wanted
    if device.type != "cuda":
        if wanted:
            raise InputError(f"--cache gpu: expected to train on CUDA, got device {device}; use --cache ram or disk")
        return "none"
    free = torch.cuda.mem_get_info(device)[0]
    if size <= GPU_SHARE * free:
        return "gpu"
    if wanted:
        raise InputError(
            f"--cache gpu: the decoded images need {size / 2**30:.1f} GiB, more than half of {free / 2**30:.1f} GiB "
            f"that are free on {device}; use --cache ram or disk"
        )
    return "none"


def choose_workers(wanted: int | None, device: torch.device) -> int:
    """Choose the count of processes that read images: as wanted, or as many as the device needs."""
    if wanted is not None:
        return wanted
    # A GPU trains faster than all cores read; on a CPU, training itself needs the cores.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, CPU_WORKERS if device.type == "cpu" else MAX_GPU_WORKERS)
