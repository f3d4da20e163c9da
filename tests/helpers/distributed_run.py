"""One evaluation and one step of a run, started by tests/training/test_distributed.py on one process or with torchrun.

python3 -m tests.helpers.distributed_run DATA RESULT [RECIPE]
"""

import dataclasses
import sys

import torch

import train
from tests.helpers.random_detector import measure_batchnorm
from utils.training.distributed import is_main, main_first, process_group
from utils.training.engine import update
from utils.training.learner import build_learner, join_processes
from utils.training.run import Run
from utils.training.settings import read_settings
from utils.weights.pretrained import set_objectness_prior


def frozen_step(run, settings):
    """{name: change of the weight} of one step of plain gradient descent at rate 1: minus the gradient.

    BatchNorm is frozen, as it sees the images of one process and part.
    """
    measure_batchnorm(run.learner.detector)  # so that no gradient is rounding noise
    measure_batchnorm(run.learner.detector)  # so that no gradient is rounding noise
    plain = dataclasses.replace(settings.recipe, optimiser="sgd", momentum=0, weight_decay=0, clip_norm=None)
    learner = build_learner(
        run.learner.detector, dataclasses.replace(settings, recipe=plain, learning_rate=1), run.device
    )
    join_processes(learner, settings)
    before = {name: weight.detach().clone() for name, weight in learner.detector.named_parameters()}
    learner.network.eval()
    run.data.batches.start(0)
    parts = iter(run.data.train_loader)
    own = [next(parts) for _ in range(settings.subdivisions)]
    losses = update(learner, own, len(run.data.batches.numbers(0, 0)), plain, settings.config.anchors)
    change = {name: weight.detach() - before[name] for name, weight in learner.detector.named_parameters()}
    return change, losses


def main(data, result, recipe="default"):
    arguments = ["--data", data, "--workers", "0", "--device", "cpu", "--recipe", recipe]
    options = train.build_parser().parse_args(arguments)
    settings = read_settings(options)
    with process_group():
        with main_first():
            run = Run(settings, vars(options))
        # So that untrained weights detect something.
        set_objectness_prior(run.learner.detector, 0.5)
        join_processes(run.learner, settings)
        evaluation, _ = run.evaluate(run.learner.detector)
        change, _ = frozen_step(run, settings)
        if is_main():
            figures = {"coco": evaluation.coco.figures, "original": dataclasses.asdict(evaluation.original)}
            figures["detections"] = [torch.from_numpy(found) for found in evaluation.detections]
            torch.save({"change": change, "figures": figures}, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
