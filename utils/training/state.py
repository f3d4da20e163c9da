"""Model, optimizer and EMA of a training run, on one process or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from model.detector import Detector
from utils.errors import warn
from utils.kernels.library import BuildError
from utils.kernels.replace_layers import use_kernels
from utils.losses import build_loss
from utils.losses.original import OriginalLoss
from utils.losses.simota import SimotaLoss
from utils.machine import keep_freed_memory
from utils.training import distributed
from utils.training.ema import build_ema
from utils.training.optimizer import build_optimizer
from utils.training.settings import Settings

SMALL_PART = 16  # images per process and part; below this, BatchNorm on CUDA uses the images of all processes


@dataclass
class TrainingState:
    """The objects that a training step uses and changes."""

    model: nn.Module  # the detector
    network: Callable  # the model, or the model wrapped for several processes or compiled
    loss: OriginalLoss | SimotaLoss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing unless `amp`
    ema: nn.Module | None
    clip_norm: float | None  # maximum norm of the gradient of a step
    device: torch.device
    amp: bool
    memory_format: torch.memory_format  # of the weights and images
    frozen: tuple[nn.Module, ...] = ()  # modules that keep their BatchNorm statistics

    @property
    def best_model(self) -> nn.Module:
        """The model to evaluate and save: the EMA if there is one."""
        return self.model if self.ema is None else self.ema


def build_state(model: Detector, settings: Settings, device: torch.device) -> TrainingState:
    """Set up a model with its initial weights for training in one process."""
    keep_freed_memory()
    model.to(device)
    memory_format = choose_memory_format(model, device, settings.compile)
    if settings.freeze_backbone:
        model.backbone.requires_grad_(False)
    amp = settings.amp and device.type == "cuda"
    if settings.amp and not amp:
        warn("--amp: mixed precision needs CUDA; training in float32")
    if settings.compile and device.type == "cpu":
        warn("--compile: on a CPU, training is half as fast with torch.compile, see docs/benchmarks.md")
    return TrainingState(
        model=model,
        network=model,
        loss=build_loss(settings.recipe, settings.config.anchors),
        optimizer=build_optimizer(model, settings.recipe, settings.learning_rate),
        scaler=torch.amp.GradScaler(device.type, enabled=amp),
        ema=build_ema(model) if settings.ema else None,
        clip_norm=settings.recipe.clip_norm,
        device=device,
        amp=amp,
        memory_format=memory_format,
        frozen=(model.backbone,) if settings.freeze_backbone else (),
    )


def choose_memory_format(model: nn.Module, device: torch.device, compiled: bool) -> torch.memory_format:
    """Convert a model to the memory format in which it trains best on a device, and return that format.

    On a CPU, a step in channels last takes half the time, but PyTorch's BatchNorm is so imprecise in this format that
    the detector gets worse. So the model gets the exact BatchNorm of utils.kernels. If that cannot be compiled, or if
    torch.compile is used, the format is contiguous, in which PyTorch's BatchNorm is exact.
    """
    memory_format = torch.channels_last
    if device.type == "cpu" and (compiled or not _use_kernels(model)):
        memory_format = torch.contiguous_format
    model.to(memory_format=memory_format)
    return memory_format


def _use_kernels(model: nn.Module) -> bool:
    try:
        use_kernels(model)
    except BuildError as error:
        warn(f"could not compile the CPU kernels; training will be about 2x slower: {error}")
        return False
    return True


def join_processes(state: TrainingState, settings: Settings) -> None:
    """Wrap the network for all processes of the run, and compile it if asked. All processes must call this.

    Each process gets the weights of the main process.
    """
    processes = distributed.world_size()
    if processes > 1:
        for module in (state.model, state.ema):
            if module is not None:
                distributed.broadcast_state(module)
        cuda = state.device.type == "cuda"
        # PyTorch has no SyncBatchNorm for CPUs.
        if cuda and settings.batch_size // (processes * settings.subdivisions) < SMALL_PART:
            nn.SyncBatchNorm.convert_sync_batchnorm(state.model)
        state.network = nn.parallel.DistributedDataParallel(state.model, [state.device] if cuda else None)
    if settings.compile:
        state.network = torch.compile(state.network)
