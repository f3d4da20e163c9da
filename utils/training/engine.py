"""The loops over a data set: an epoch of training, an evaluation."""

import contextlib
import itertools

import torch

from utils.losses.objectives import OBJECTIVES
from utils.losses.original import Losses
from utils.training.distributed import sum_over_processes, world_size
from utils.training.ema import update_average


def update(learner, parts, batch_images, recipe, anchors):
    """One optimiser step on a batch that comes in parts.

    Losses are divided by what the whole batch holds: the parts, of this process and the others, add up to it. So
    neither changes the step, but for BatchNorm, which sees a part at a time.

    Args:
        learner: Learner.
        parts: list of (images [N, 3, H, W] uint8, targets [M, 6]) of this process.
        batch_images: images of the whole batch, over all processes.
    Returns:
        [4] total, box, objectness and class loss of this process's parts, on the device.
    """
    parts = [
        (images.to(learner.device, non_blocking=True), t.to(learner.device, non_blocking=True)) for images, t in parts
    ]
    objective = OBJECTIVES[recipe.assignment]
    prepared = [objective.prepare(images, targets, anchors) for images, targets in parts]
    counts = sum_over_processes(sum(map(objective.counts, prepared)))
    total = torch.zeros(len(Losses._fields), device=learner.device)
    for number, ((images, _), known) in enumerate(zip(parts, prepared, strict=True), 1):
        # Gradients travel between the processes once, with the last part.
        wait = number < len(parts) and hasattr(learner.network, "no_sync")
        with learner.network.no_sync() if wait else contextlib.nullcontext():
            with torch.autocast(learner.device.type, enabled=learner.amp):
                pixels = (images / 255).contiguous(memory_format=learner.memory_format)
                output = learner.network(pixels)
            losses = objective.loss(output, known, recipe, counts, len(images) / batch_images)
            # DistributedDataParallel takes the mean over the processes; the parts' losses are to be added.
            learner.scaler.scale(losses.total * world_size()).backward()
        total += torch.stack(losses).detach()
    if recipe.clip_norm is not None:
        # In a batch in which a channel is all but silent, BatchNorm divides by next to nothing, and a gradient is
        # hundreds of times as long as others; one such step undoes several epochs.
        learner.scaler.unscale_(learner.optimiser)
        torch.nn.utils.clip_grad_norm_(learner.detector.parameters(), recipe.clip_norm)
    learner.scaler.step(learner.optimiser)
    learner.scaler.update()
    learner.optimiser.zero_grad(set_to_none=True)
    return total


def train_epoch(learner, loader, batches, recipe, anchors, learning_rate_at, first_step, after_step):
    """Train on one epoch, or on what is left of it.

    Args:
        loader: gives (images, targets), one a part, in the order of `batches`.
        batches: TrainBatches.
        learning_rate_at: function of the step in the epoch.
        first_step: step in the epoch to begin with.
        after_step: function of (step in the epoch, losses [4] of the whole batch on the device, learning rate); when
            it returns True the epoch ends there.
    """
    learner.network.train()
    for module in learner.frozen:
        module.eval()
    parts = iter(loader)
    for step in range(first_step, batches.steps):
        rate = learning_rate_at(step)
        for group in learner.optimiser.param_groups:
            group["lr"] = rate
        numbers = batches.numbers(batches.epoch, step)
        own = list(itertools.islice(parts, batches.subdivisions))
        losses = sum_over_processes(update(learner, own, len(numbers), recipe, anchors))
        if learner.average is not None:
            update_average(learner.average, learner.detector, batches.epoch * batches.steps + step + 1)
        if after_step(step, losses, rate):
            return
