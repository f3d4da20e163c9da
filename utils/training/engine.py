"""The loops over a data set: an epoch of training, an evaluation."""

import contextlib
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from utils.convert.coco import coco_content, image_ids
from utils.dataset.dataset import DetectionDataset
from utils.dataset.images import image_size
from utils.dataset.prefetch import map_ahead, one_thread_an_image, read_batch, read_batches
from utils.evaluation.coco import MAX_DET, CocoMetrics, coco_metrics, coco_results
from utils.evaluation.original import OriginalMetrics, original_metrics
from utils.losses.objectives import OBJECTIVES
from utils.losses.original import Losses
from utils.memory import without_collector
from utils.postprocess import MAX_DETECTIONS
from utils.training.distributed import is_main, sum_over_processes, world_size
from utils.training.ema import update_average

EVAL_CONF = 0.01  # low, so that the precision-recall curves are whole
EVAL_IOU = 0.4


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


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a data set gave."""

    detections: list[np.ndarray]  # an image [n, 6], (x1, y1, x2, y2, score, class) in pixels of the network's frame
    results: list[dict]  # the same in COCO's results format, in pixels of the image
    original: OriginalMetrics
    coco: CocoMetrics


def detect_images(runtime, index, config, batch_size, workers, conf=EVAL_CONF, iou=EVAL_IOU, max_det=MAX_DETECTIONS):
    """Detections of every image of a data set, in order.

    Args:
        runtime: from `utils.runtimes.loading.load_runtime`.
        index: DatasetIndex.
        config: Config, for the network's size.
        batch_size: images a batch; it changes the speed only.
        workers: threads that read images, where those that the network works in do not.
        conf, iou, max_det: as in `utils.postprocess.detect`.
    Returns:
        list of arrays [n, 6], (x1, y1, x2, y2, score, class) in pixels of the network's frame, best first.
    Raises:
        InputError: an image cannot be read. Its objects could only count as missed, and the figures would be wrong.
    """
    # What is no image is known from its missing size, at once and not when its turn comes.
    for position in np.flatnonzero(~index.sizes.all(1)):
        image_size(index.images[position])
    dataset = DetectionDataset(index, config.width, config.height)
    total, at_once = len(index), runtime.batches_at_once
    predict = partial(predict_batch, runtime, conf=conf, iou=iou, max_det=max_det)
    if at_once == 1:
        return collect_detections(predict, read_batches(dataset, batch_size, workers), total)
    # Each thread reads, computes and selects. With others that read there are more threads than cores, and one that is
    # needed, or holds Python's lock, waits for its turn on a core: a quarter of the time.
    size = min(batch_size, -(-total // at_once))
    numbers = (range(start, min(start + size, total)) for start in range(0, total, size))
    with one_thread_an_image():
        return collect_detections(lambda some: predict(read_batch(dataset, some)), numbers, total, at_once)


def predict_batch(runtime, batch, conf=EVAL_CONF, iou=EVAL_IOU, max_det=MAX_DETECTIONS):
    """The detections in a batch as `utils.dataset.dataset.collate` makes it, a list of N tensors [n, 6]."""
    return runtime.predict(batch[0].permute(0, 2, 3, 1), conf=conf, iou=iou, max_det=max_det)


def collect_detections(predict, batches, total, at_once=1):
    """Detections of every image, in order.

    Args:
        predict: function of a batch that gives a list of N tensors [n, 6].
        batches: iterable of batches, of whatever kind.
        total: number of images, for the progress bar.
        at_once: batches that are worked on side by side, sharing PyTorch's threads.
    Returns:
        list of arrays [n, 6].
    """
    bar = tqdm(total=total, desc="evaluating", unit="image", disable=None if is_main() else True, leave=False)
    detections = []
    with (
        bar,
        _threads_for(at_once) as pool,
        contextlib.closing(map_ahead(pool, predict, batches, at_once)) as predictions,
    ):
        for found in predictions:
            detections += [rows.cpu().numpy() for rows in found]
            bar.update(len(found))
    return detections


@contextlib.contextmanager
def _threads_for(count):
    """A pool of threads that share PyTorch's own ones among them."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, "network", torch.set_num_threads, (max(1, threads // count),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)  # the pool has changed the default of every later thread


@without_collector()
def measure(detections, index, frame_size, class_names, max_det=MAX_DET):
    """Both definitions' figures from the detections of a data set.

    Args:
        detections: as from `collect_detections`, in the order of the index.
        index: DatasetIndex.
        frame_size: (width, height) of the network's input.
    Returns:
        Evaluation.
    """
    # What is no image has no size of its own, but its labels count: they are missed.
    index = dataclasses.replace(index, sizes=np.where(index.sizes > 0, index.sizes, frame_size))
    results = coco_results(detections, image_ids(index.images), frame_size, index.sizes)
    truth = coco_content(index, class_names, index.source.parent)
    return Evaluation(
        detections=detections,
        results=results,
        original=original_metrics(detections, index.labels, frame_size),
        coco=coco_metrics(results, truth, max_det),
    )
