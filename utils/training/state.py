"""What learns in a training run: network, optimiser, average of the weights, on one process or several."""

from dataclasses import dataclass

import torch
from torch import nn

from utils.errors import warn
from utils.kernels.build import BuildError
from utils.kernels.library import Kernels
from utils.kernels.use import use_kernels
from utils.memory import keep_freed_memory
from utils.training import distributed
from utils.training.ema import average_of

SECOND_BETA = 0.999  # of AdamW
SMALL_PART = 16  # images a process and part below which BatchNorm needs the other processes' images too


@dataclass
class Learner:
    """What learns: the network and what moves its weights."""

    detector: nn.Module  # holds the weights
    network: nn.Module  # what is called: the detector itself, or wrapped for several processes or compiled
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing unless training in half precision
    average: nn.Module | None
    device: torch.device
    amp: bool
    memory_format: torch.memory_format  # of the network's weights and images
    frozen: tuple[nn.Module, ...] = ()  # keep their BatchNorm statistics

    @property
    def best_network(self):
        """The weights that are evaluated and saved: the average if there is one."""
        return self.detector if self.average is None else self.average


def prepare_layout(detector, device, compiled):
    """Give a network the layout in memory in which it trains best on a device.

    On a CPU channels last takes half the time, but there PyTorch's BatchNorm is so coarse that the network learns
    visibly slower; so it is given the exact one of utils.kernels. Where that cannot be compiled, or the network is
    to be compiled around it, the layout stays contiguous, in which PyTorch's is exact.

    Args:
        detector: Detector, on the device.
        compiled: whether torch.compile will be applied to it.
    Returns:
        the torch.memory_format.
    """
    layout = torch.channels_last
    if device.type == "cpu" and (compiled or not _use_exact_batchnorm(detector)):
        layout = torch.contiguous_format
    detector.to(memory_format=layout)
    return layout


def _use_exact_batchnorm(detector):
    """Whether the detector has the BatchNorm of utils.kernels now; if not, a warning says why."""
    try:
        use_kernels(detector, Kernels())
    except BuildError as error:
        warn(f"training takes twice as long, for want of a compiled BatchNorm: {error}")
        return False
    return True


def build_optimiser(detector, settings):
    """The recipe's optimiser over all weights of a network.

    Also over frozen ones, which have no gradient and are left alone: so the optimiser's state fits a run that goes on
    with or without --freeze-backbone.
    """
    recipe = settings.recipe
    weights = list(detector.parameters())
    if recipe.decay_all:
        groups = [{"params": weights, "weight_decay": recipe.weight_decay}]
    else:
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
        ]
    if recipe.optimiser == "adamw":
        betas = (recipe.momentum, SECOND_BETA)
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas, foreach=True)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def build_learner(detector, settings, device):
    """Network, optimiser and average as the settings and the recipe say, for one process.

    Args:
        detector: Detector with the weights to start from.
        settings: Settings.
        device: torch.device.
    Returns:
        Learner.
    """
    keep_freed_memory()
    detector.to(device)
    layout = prepare_layout(detector, device, settings.compile)
    if settings.freeze_backbone:
        detector.backbone.requires_grad_(False)
    amp = settings.amp and device.type == "cuda"
    if settings.amp and not amp:
        warn("--amp: mixed precision is for CUDA; training goes on in float32")
    if settings.compile and device.type == "cpu":
        warn("--compile: on a CPU training is half as fast with it as without, see benchmarks/README.md")
    optimiser = build_optimiser(detector, settings)
    return Learner(
        detector=detector,
        network=detector,
        optimiser=optimiser,
        scaler=torch.amp.GradScaler(device.type, enabled=amp),
        average=average_of(detector) if settings.ema else None,
        device=device,
        amp=amp,
        memory_format=layout,
        frozen=(detector.backbone,) if settings.freeze_backbone else (),
    )


def join_processes(learner, settings):
    """Wrap the learner's network for all processes of the run, which must all call this, and compile it if asked to.

    Every process gets the main one's weights.
    """
    processes = distributed.world_size()
    if processes > 1:
        for module in (learner.detector, learner.average):
            if module is not None:
                distributed.same_everywhere(module)
        cuda = learner.device.type == "cuda"
        # On the CPU PyTorch has no SyncBatchNorm: there BatchNorm sees the images of one process and part.
        if cuda and settings.batch_size // (processes * settings.subdivisions) < SMALL_PART:
            nn.SyncBatchNorm.convert_sync_batchnorm(learner.detector)
        learner.network = nn.parallel.DistributedDataParallel(learner.detector, [learner.device] if cuda else None)
    if settings.compile:
        learner.network = torch.compile(learner.network)
