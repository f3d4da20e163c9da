"""One evaluation and one optimizer step of a run, for tests/training/test_distributed.py, in one process or with
torchrun.

python3 -m tests.helpers.distributed_run DATA RESULT [RECIPE]
"""

import dataclasses
import sys

import torch

from tests.helpers.random_detector import measure_batchnorm
from utils.training.distributed import is_main, main_first, process_group
from utils.training.engine import train_step
from utils.training.run import Run
from utils.training.settings import TrainOptions, read_settings
from utils.training.state import build_state, join_processes
from utils.weights.start_weights import set_objectness_prior


def frozen_step(run, settings):
    """{name: change of the weight} of one step of plain gradient descent at rate 1, which is minus the gradient.

    BatchNorm is frozen, because it depends on the images of one process and part.
    """
    measure_batchnorm(run.state.model)  # so that no gradient is rounding noise
    plain = dataclasses.replace(settings.recipe, optimizer="sgd", momentum=0, weight_decay=0, clip_norm=None)
    state = build_state(run.state.model, dataclasses.replace(settings, recipe=plain, learning_rate=1), run.device)
    join_processes(state, settings)
    before = {name: weight.detach().clone() for name, weight in state.model.named_parameters()}
    state.network.eval()
    run.data.batches.start(0)
    parts = iter(run.data.train_loader)
    own_parts = [next(parts) for _ in range(settings.config.subdivisions)]
    train_step(state, own_parts, len(run.data.batches.batch_indices(0, 0)))
    return {name: weight.detach() - before[name] for name, weight in state.model.named_parameters()}


def main(data, result, recipe="default"):
    options = TrainOptions(data=data, workers=0, device="cpu", recipe=recipe)
    with process_group():
        with main_first():
            settings = read_settings(options)
        run = Run(settings)
        # So that untrained weights detect something.
        set_objectness_prior(run.state.model, 0.5)
        join_processes(run.state, settings)
        evaluation, _ = run.evaluate(run.state.model)
        change = frozen_step(run, settings)
        if is_main():
            metrics = {"coco": evaluation.coco.summary, "original": dataclasses.asdict(evaluation.original)}
            metrics["detections"] = [torch.from_numpy(found) for found in evaluation.detections]
            torch.save({"change": change, "metrics": metrics}, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
