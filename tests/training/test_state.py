"""Training state: memory format, exact BatchNorm, clipped gradients."""

import pytest
import torch
from torch import nn

from model.detector import Detector
from tests.helpers.training_files import assert_equal, write_shapes
from utils.kernels.library import get_kernels
from utils.training.engine import train_step
from utils.training.recipe import RECIPES
from utils.training.run import Run
from utils.training.settings import TrainOptions, read_settings
from utils.training.state import build_state, prepare_layers

CPU = torch.device("cpu")


@pytest.mark.parametrize(("compiler", "expected"), [(None, torch.channels_last), ("no-such", torch.contiguous_format)])
def test_batchnorm_is_exact_in_the_memory_format_of_training(monkeypatch, capsys, compiler, expected):
    if compiler:
        monkeypatch.setenv("CXX", compiler)
        get_kernels.cache_clear()
    torch.manual_seed(0)
    values = torch.randn(16, 4, 176, 176) * 3 + 2
    gradient = torch.randn_like(values) * 1e-3 + 1e-4
    weights = []
    for dtype in (torch.float64, torch.float32):
        network = nn.Sequential(nn.BatchNorm2d(4)).to(dtype)
        layout = torch.contiguous_format
        if dtype == torch.float32:
            layout = prepare_layers(network, CPU)
            warned = "no C++ compiler" in capsys.readouterr().err
            assert warned == (layout == torch.contiguous_format)
            # On a machine without a compiler both cases are contiguous.
            assert layout == expected or (compiler is None and warned)
        network(values.to(dtype).contiguous(memory_format=layout)).backward(gradient.to(dtype))
        weights.append(network[0].weight.grad.double())
    assert (weights[0] - weights[1]).norm() / weights[0].norm() < 1e-4


@pytest.mark.parametrize("compiler", [None, "no-such"])
def test_steps_and_evaluations_keep_the_memory_format(tmp_path, monkeypatch, compiler):
    """With channels-last weights all activations are channels last."""
    monkeypatch.chdir(tmp_path)
    if compiler:
        monkeypatch.setenv("CXX", compiler)
        get_kernels.cache_clear()
    options = TrainOptions(data=str(write_shapes(tmp_path)), workers=0)
    settings = read_settings(options)
    run = Run(settings)
    seen = []
    for module in run.state.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda module, _, output: seen.append(output.is_contiguous(memory_format=run.state.memory_format))
            )
    # Channels last in memory, as from a loader.
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.3]])
    for _ in range(2):
        run.state.model.train()
        seen.clear()
        train_step(run.state, [(images, targets)], len(images))
        assert len(seen) > 50
        assert all(seen)
        evaluation, _ = run.evaluate(run.state.evaluated_model)
        assert evaluation is not None


@pytest.mark.parametrize("limit", [None, 0.5])
def test_a_large_gradient_is_clipped(tmp_path, monkeypatch, limit):
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(data=str(write_shapes(tmp_path)), workers=0)
    settings = read_settings(options)
    run = Run(settings)
    lengths = []

    def step():
        lengths.append(torch.cat([weight.grad.flatten() for weight in run.state.model.parameters()]).norm().item())

    monkeypatch.setattr(run.state.optimizer, "step", step)
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.3]])
    run.state.clip_norm = limit
    run.state.model.train()
    train_step(run.state, [(images, targets)], len(images))
    (length,) = lengths
    assert length > 1 if limit is None else length == pytest.approx(limit, rel=1e-3)


def test_amp_on_a_cpu_causes_a_warning(tmp_path, capsys):
    settings = read_settings(TrainOptions(data=str(write_shapes(tmp_path)), amp=True))
    state = build_state(Detector(settings.config.classes, settings.config.anchor_num), settings, CPU)
    assert "--amp" in capsys.readouterr().err
    assert state.amp is None
    assert not state.scaler.is_enabled()


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_optimizer_of_a_gpu_run_continues_on_a_cpu(tmp_path, recipe):
    """On CUDA the learning rate and the step counts are tensors, and AdamW is fused."""
    settings = read_settings(TrainOptions(data=str(write_shapes(tmp_path)), recipe=recipe))
    states = []
    for _ in range(2):
        torch.manual_seed(0)
        states.append(build_state(Detector(settings.config.classes, settings.config.anchor_num), settings, CPU))
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    targets = torch.tensor([[0, 1, 0.5, 0.5, 0.3, 0.3]])
    for step, state in enumerate(states * 2):
        state.set_step(1e-3, step // 2 + 1)
        state.model.train()
        train_step(state, [(images, targets)], len(images))
    saved = states[0].optimizer.state_dict()
    for group in saved["param_groups"]:
        group.update(lr=torch.tensor(1e-3), fused=True, capturable=True, foreach=None)
    states[0].load_optimizer(saved)
    for state in states:
        state.set_step(1e-3, 3)
        train_step(state, [(images, targets)], len(images))
    assert_equal(*(state.model.state_dict() for state in states))
    assert_equal(*(state.optimizer.state_dict()["state"] for state in states))
