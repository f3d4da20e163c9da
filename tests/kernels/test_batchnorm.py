"""BatchNorm kernels against PyTorch in float64; PyTorch in float32 is less exact in this memory format."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.kernel_layers import LAYOUT, step, threads
from utils.kernels.replace_layers import use_kernels

pytestmark = pytest.mark.usefixtures("kernels")


def layers(channels, relu, dtype=torch.float32):
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm, *([nn.ReLU(inplace=True)] if relu else [])).to(dtype)


def both(shape, relu, mean=0.0, spread=1.0):
    """Return the results of the kernels, and of PyTorch in float64, for the same input."""
    torch.manual_seed(0)
    x = (torch.randn(shape) * spread + mean).contiguous(memory_format=LAYOUT)
    gradient = torch.randn(shape)
    ours, exact = layers(shape[1], relu), layers(shape[1], relu, torch.float64)
    use_kernels(ours)
    return step(ours, x, gradient), step(exact, x.double(), gradient.double())


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 70),
    height=st.integers(1, 19),
    width=st.integers(2, 19),
    relu=st.booleans(),
    count=st.integers(1, 5),
)
def test_equal_to_float64(batch, channels, height, width, relu, count):
    with threads(count):
        found, exact = both((batch, channels, height, width), relu)
    for actual, expected in zip(found, exact, strict=True):
        # Few values can have almost no variance, and dividing by it enlarges rounding errors.
        torch.testing.assert_close(actual, expected, rtol=2e-3, atol=2e-3 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (100, 1), (-30, 0.5), (0, 1e-3)])
def test_sums_over_many_values_are_exact(relu, mean, spread):
    found, exact = both((16, 8, 176, 176), relu, mean, spread)
    # Near a large mean the rounding errors of float32 are large, and some values change their sign at ReLU.
    limits = (1e-5, *[1e-3 if relu else 1e-4] * 3, 1e-6, 1e-5, 0) if mean else (1e-6, 1e-6, 1e-5, 1e-5, 1e-5, 1e-6, 0)
    for actual, expected, limit in zip(found, exact, limits, strict=True):
        assert (actual - expected).norm() / expected.norm() <= limit


@pytest.mark.parametrize("pixel", [0, 1, 2000])
@pytest.mark.parametrize(
    ("shape", "spread", "value"),
    [((8, 4, 22, 22), 1e-2, 30.0), ((8, 4, 22, 22), 1e-2, 1000.0), ((32, 4, 88, 88), 1e-3, 0.3)],
)
def test_one_distant_pixel_leaves_the_variance_exact(shape, spread, value, pixel):
    """A channel may be constant except at one pixel."""
    torch.manual_seed(0)
    x = (torch.randn(shape) * spread).contiguous(memory_format=LAYOUT)
    x.permute(0, 2, 3, 1).view(-1, shape[1])[pixel] = value
    gradient = torch.randn(shape)
    network = layers(shape[1], False)
    use_kernels(network)
    found = step(network, x, gradient)
    exact = step(layers(shape[1], False, torch.float64), x.double(), gradient.double())
    for actual, expected in zip(found, exact, strict=True):
        assert (actual - expected).norm() / expected.norm() < 1e-4


def test_more_exact_than_pytorch_in_this_layout():
    """The reason for the kernels: PyTorch adds up the same memory value by value."""
    torch.manual_seed(0)
    shape = (16, 8, 176, 176)
    x, gradient = torch.randn(shape) * 3 + 2, torch.randn(shape) * 1e-3 + 1e-4
    x, gradient = (values.contiguous(memory_format=LAYOUT) for values in (x, gradient))
    exact = step(layers(8, False, torch.float64), x.double(), gradient.double())[2]
    theirs = step(layers(8, False), x, gradient)[2]
    network = layers(8, False)
    use_kernels(network)
    ours = step(network, x, gradient)[2]
    assert (ours - exact).norm() < (theirs - exact).norm() / 10


def test_equal_values_have_no_variance():
    network = layers(3, False)
    use_kernels(network)
    y, x_gradient, *_ = step(
        network, torch.full((2, 3, 8, 8), 7.0).contiguous(memory_format=LAYOUT), torch.ones(2, 3, 8, 8)
    )
    torch.testing.assert_close(y, network[0].bias.detach().double().view(1, 3, 1, 1).expand(2, 3, 8, 8))
    assert torch.isfinite(x_gradient).all()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_kept(relu, value):
    """A failed step must be visible in the loss and not disappear in a ReLU."""
    network = layers(3, relu)
    use_kernels(network)
    x = torch.randn(2, 3, 8, 8)
    x[1, 2, 3, 4] = value
    y = network(x.contiguous(memory_format=LAYOUT))
    assert not torch.isfinite(y[:, 2]).any()
    assert torch.isfinite(y[:, :2]).all()


@pytest.mark.parametrize("relu", [False, True])
def test_the_output_is_not_saved_for_the_backward_pass(relu):
    # In half of the blocks the output is copied into the block's output immediately; saving it would waste memory.
    network = layers(8, relu)
    use_kernels(network)
    y = network(torch.randn(2, 8, 5, 5, requires_grad=True))
    assert y.data_ptr() not in {kept.data_ptr() for kept in y.grad_fn.saved_tensors}


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_relu_stops_the_gradients_of_negative_values(scale):
    network = layers(8, True)
    use_kernels(network)
    x = (torch.randn(4, 8, 9, 9) * scale).contiguous(memory_format=LAYOUT)
    y = network(x)
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(network[0].bias.grad, (y > 0).sum((0, 2, 3)).float(), rtol=0, atol=0)


def test_input_in_another_memory_format():
    network = layers(5, True)
    use_kernels(network)
    x, gradient = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 6, 7)
    for actual, expected in zip(
        step(network, x, gradient), step(layers(5, True, torch.float64), x.double(), gradient.double()), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
