"""Model, optimizer and EMA of a training run, on one process or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
from utils.training.ema import build_ema, ema_weight
from utils.training.optimizer import build_optimizer
from utils.training.settings import Settings

BFLOAT16_CAPABILITY = (8, 0)  # of CUDA devices that compute in bfloat16: Ampere and later
SMALL_PART = 16  # images per process and part; below this, BatchNorm on CUDA uses the images of all processes


@dataclass
class TrainingState:
    """The objects that a training step uses and changes."""

    model: nn.Module  # the detector
    network: Callable  # the model, or with several processes the DistributedDataParallel around it
    loss: OriginalLoss | SimotaLoss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing unless `amp` is float16
    ema: nn.Module | None
    ema_weight: torch.Tensor  # scalar on the device, for the next step, see `utils.training.ema`
    clip_norm: float | None  # maximum norm of the gradient of a step
    device: torch.device
    amp: torch.dtype | None  # of autocast; None: no autocast
    memory_format: torch.memory_format  # of the weights and images
    frozen: tuple[nn.Module, ...] = ()  # modules that keep their BatchNorm statistics

    @property
    def evaluated_model(self) -> nn.Module:
        """The model to evaluate and save: the EMA if there is one."""
        return self.model if self.ema is None else self.ema

    def set_step(self, rate: float, step: int) -> None:
        """Set the values that change from step to step.

        Args:
            step: optimizer steps of the whole run so far, with this one.
        """
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self.ema is not None:
            self.ema_weight.fill_(ema_weight(step))

    def load_optimizer(self, saved: Mapping[str, Any]) -> None:
        """Load the state of an optimizer, which may be from another device.

        Raises:
            ValueError, KeyError, TypeError, RuntimeError: it does not fit the optimizer.
        """
        form = ("lr", "foreach", "fused", "capturable")  # these depend on the device
        groups = [
            {**group, **{key: value for key, value in current.items() if key in form}}
            for group, current in zip(saved["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})


def build_state(model: Detector, settings: Settings, device: torch.device) -> TrainingState:
    """Set up a model with its initial weights for training in one process."""
    keep_freed_memory()
    model.to(device)
    memory_format = prepare_layers(model, device)
    if settings.options.freeze_backbone:
        model.backbone.requires_grad_(False)
    amp = _choose_amp(device) if settings.options.amp else None
    return TrainingState(
        model=model,
        network=model,
        loss=build_loss(settings.recipe, settings.config.anchors),
        optimizer=build_optimizer(model, settings.recipe, settings.learning_rate),
        scaler=torch.amp.GradScaler(device.type, enabled=amp == torch.float16),
        ema=build_ema(model) if settings.ema else None,
        ema_weight=torch.ones((), device=device),
        clip_norm=settings.recipe.clip_norm,
        device=device,
        amp=amp,
        memory_format=memory_format,
        frozen=(model.backbone,) if settings.options.freeze_backbone else (),
    )


def _choose_amp(device: torch.device) -> torch.dtype | None:
    """Return the type for mixed precision: bfloat16 needs no scaled gradients, but older GPUs do not have it."""
    if device.type != "cuda":
        warn("--amp: mixed precision needs CUDA; training in float32")
        return None
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY else torch.float16


def prepare_layers(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Convert a model to the layers and the memory format in which it trains best on a device; return the format.

    On a CPU, a step in channels last takes half the time, but PyTorch's BatchNorm is so imprecise in this format that
    the detector gets worse. So the model gets the exact BatchNorm of utils.kernels. If that cannot be compiled, the
    format is contiguous, in which PyTorch's BatchNorm is exact.
    """
    memory_format = torch.channels_last
    if device.type == "cpu":
        try:
            use_kernels(model)
        except BuildError as error:
            warn(f"could not compile the CPU kernels; training will be about 2x slower: {error}")
            memory_format = torch.contiguous_format
    model.to(memory_format=memory_format)
    return memory_format


def join_processes(state: TrainingState, settings: Settings) -> None:
    """Wrap the network for all processes of the run. All processes must call this.

    Each process gets the weights of the main process.
    """
    processes = distributed.world_size()
    if processes > 1:
        for module in (state.model, state.ema):
            if module is not None:
                distributed.broadcast_state(module)
        cuda = state.device.type == "cuda"
        # PyTorch has no SyncBatchNorm for CPUs.
        if cuda and settings.batch_size // (processes * settings.config.subdivisions) < SMALL_PART:
            nn.SyncBatchNorm.convert_sync_batchnorm(state.model)
        state.network = nn.parallel.DistributedDataParallel(state.model, [state.device] if cuda else None)
