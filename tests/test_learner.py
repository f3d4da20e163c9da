"""What learns: its layout in memory, in which BatchNorm is exact."""

import numpy as np
import torch
from torch import nn

import train
from model.detector import Detector
from tests.training_files import write_shapes
from utils.engine import update
from utils.learner import build_learner, layout
from utils.runtimes.torch_runtime import TorchRuntime
from utils.settings import read_settings

CPU = torch.device("cpu")


def test_batchnorm_sums_exactly_in_the_layout_that_is_trained_in():
    torch.manual_seed(0)
    values = torch.randn(16, 4, 176, 176) * 3 + 2
    gradient = torch.randn_like(values) * 1e-3 + 1e-4
    weights = []
    for dtype in (torch.float64, torch.float32):
        norm = nn.BatchNorm2d(4).to(dtype)
        norm(values.to(dtype).contiguous(memory_format=layout(CPU))).backward(gradient.to(dtype))
        weights.append(norm.weight.grad.double())
    assert (weights[0] - weights[1]).norm() / weights[0].norm() < 1e-4


def test_the_layout_stays_through_steps_and_evaluations(tmp_path):
    data = write_shapes(tmp_path)
    settings = read_settings(train.build_parser().parse_args(["--data", str(data)]))
    config = settings.config
    learner = build_learner(Detector(config.classes, config.anchor_num), settings, CPU)
    seen = []
    for module in learner.detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, inputs, output: seen.append(output.is_contiguous()))
    # As a loader gives them: channels last in memory.
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.3]])
    for _ in range(2):
        learner.detector.train()
        update(learner, [(images, targets)], len(images), settings.recipe, config.anchors)
        runtime = TorchRuntime(learner.detector, config, CPU, learner.memory_format)
        runtime.predict(np.zeros((1, 64, 64, 3), np.uint8), conf=0.5, iou=0.4)
    assert len(seen) > 200
    assert all(seen)
