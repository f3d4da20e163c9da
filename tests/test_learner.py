"""What learns: its layout in memory, in which BatchNorm is exact."""

import torch
from torch import nn

import train
from tests.training_files import write_shapes
from utils.engine import update
from utils.learner import layout
from utils.settings import read_settings
from utils.training import Run

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


def test_the_layout_stays_through_steps_and_evaluations(tmp_path, monkeypatch):
    """Weights that are channels last make everything behind them channels last."""
    monkeypatch.chdir(tmp_path)
    options = train.build_parser().parse_args(["--data", str(write_shapes(tmp_path)), "--workers", "0"])
    settings = read_settings(options)
    run = Run(settings, vars(options))
    seen = []
    for module in run.learner.detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda module, _, output: seen.append(output.is_contiguous()))
    # As a loader gives them: channels last in memory.
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.3]])
    for _ in range(2):
        run.learner.detector.train()
        seen.clear()
        update(run.learner, [(images, targets)], len(images), settings.recipe, settings.config.anchors)
        assert len(seen) > 50
        assert all(seen)
        evaluation, _ = run.evaluate(run.learner.best_network)
        assert evaluation is not None
