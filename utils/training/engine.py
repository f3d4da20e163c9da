"""One optimizer step. The loop over the steps of an epoch is `utils.training.run.Run`."""

import contextlib
from collections.abc import Callable

import torch

from utils.losses import Losses
from utils.training.distributed import sum_over_processes, world_size
from utils.training.ema import update_ema
from utils.training.state import TrainingState

Part = tuple[torch.Tensor, torch.Tensor]  # images [N, 3, H, W] uint8, targets [M, 6]
Step = Callable[[list[Part]], torch.Tensor]  # `train_step` of a state and a batch size


def train_step(state: TrainingState, parts: list[Part], batch_images: int) -> torch.Tensor:
    """Make one optimizer step on a batch that is split into parts.

    The losses are divided by counts over the whole batch, so that the losses of the parts of all processes add up to
    the loss of the batch. The step is the same for any number of parts, except that BatchNorm sees one part at a time.

    Args:
        parts: this process's parts of the batch.
        batch_images: images in the whole batch, over all processes.

    Returns:
        [4] total, box, objectness and class loss of this process's parts, on the device.

    Nothing here waits for a CUDA device, and all that changes from step to step is in tensors, so that
    `utils.training.graph` can record the step.
    """
    device = state.device
    parts = [(images.to(device, non_blocking=True), targets.to(device, non_blocking=True)) for images, targets in parts]
    prepared = [state.loss.prepare(targets, images.shape[2:]) for images, targets in parts]
    counts = sum_over_processes(sum(map(state.loss.count, prepared)))
    total = torch.zeros(len(Losses._fields), device=device)
    for index, ((images, _), part_prepared) in enumerate(zip(parts, prepared, strict=True), 1):
        # Gradients are exchanged between processes once, with the last part.
        skip_sync = index < len(parts) and hasattr(state.network, "no_sync")
        with state.network.no_sync() if skip_sync else contextlib.nullcontext():
            with torch.autocast(device.type, state.amp, enabled=state.amp is not None):
                pixels = (images / 255).contiguous(memory_format=state.memory_format)
                output = state.network(pixels)
            losses = state.loss(output, part_prepared, counts, len(images) / batch_images)
            # DistributedDataParallel averages over the processes, but the losses of the parts add up.
            state.scaler.scale(losses.total * world_size()).backward()
        total += torch.stack(losses).detach()
    if state.clip_norm is not None:
        # BatchNorm divides by almost zero if a channel is nearly constant in a batch. The norm of such a gradient can
        # be hundreds of times larger than usual, and the step can undo several epochs.
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), state.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        update_ema(state.ema, state.model, state.ema_weight)
    return total
