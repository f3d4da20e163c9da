"""BatchNorm in channels-last memory: the same as PyTorch's in float64, and more exact than its own in float32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from utils.kernels.use import use_kernels

LAYOUT = torch.channels_last


def layers(channels, relu, dtype=torch.float32):
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm, *([nn.ReLU(inplace=True)] if relu else [])).to(dtype)


def step(network, x, gradient):
    """Output, gradients of input, weight and bias, running mean and variance, in float64."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = network(x * 1)  # times 1, since a leaf cannot be changed in place
    y.backward(gradient)
    norm = network[0]
    parts = (y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var)
    return [part.double() for part in parts]


def both(kernels, shape, relu, mean=0.0, spread=1.0):
    """The kernels' results and those of PyTorch in float64, of the same numbers."""
    torch.manual_seed(0)
    x = (torch.randn(shape) * spread + mean).contiguous(memory_format=LAYOUT)
    gradient = torch.randn(shape)
    ours, exact = layers(shape[1], relu), layers(shape[1], relu, torch.float64)
    use_kernels(ours, kernels)
    return step(ours, x, gradient), step(exact, x.double(), gradient.double())


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 5),
    channels=st.integers(1, 70),
    height=st.integers(1, 19),
    width=st.integers(2, 19),
    relu=st.booleans(),
    threads=st.integers(1, 5),
)
def test_equal_to_float64(kernels, batch, channels, height, width, relu, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, exact = both(kernels, (batch, channels, height, width), relu)
    finally:
        torch.set_num_threads(before)
    for ours, reference in zip(found, exact, strict=True):
        # Few values can have next to no variance, and what is divided by it is large.
        torch.testing.assert_close(ours, reference, rtol=2e-3, atol=2e-3 * max(1.0, float(reference.abs().max())))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("mean", "spread"), [(0, 1), (100, 1), (-30, 0.5), (0, 1e-3)])
def test_sums_over_many_values_are_exact(kernels, relu, mean, spread):
    found, exact = both(kernels, (16, 24, 176, 176), relu, mean, spread)
    # In float32, values near a large mean are coarse themselves, and ReLU cuts some of them on the other side.
    limits = (1e-5, *[1e-3 if relu else 1e-4] * 3, 1e-6, 1e-5) if mean else (1e-6, 1e-6, 1e-5, 1e-5, 1e-5, 1e-6)
    for ours, reference, limit in zip(found, exact, limits, strict=True):
        assert (ours - reference).norm() / reference.norm() < limit


@pytest.mark.parametrize("pixel", [0, 1, 2000])
@pytest.mark.parametrize(
    ("shape", "spread", "value"),
    [((8, 4, 22, 22), 1e-2, 30.0), ((8, 4, 22, 22), 1e-2, 1000.0), ((32, 4, 88, 88), 1e-3, 0.3)],
)
def test_one_pixel_far_off_leaves_the_variance_exact(kernels, shape, spread, value, pixel):
    """As where a channel is silent but for a corner."""
    torch.manual_seed(0)
    x = (torch.randn(shape) * spread).contiguous(memory_format=LAYOUT)
    x.permute(0, 2, 3, 1).view(-1, shape[1])[pixel] = value
    gradient = torch.randn(shape)
    network = layers(shape[1], False)
    use_kernels(network, kernels)
    found = step(network, x, gradient)
    exact = step(layers(shape[1], False, torch.float64), x.double(), gradient.double())
    for ours, reference in zip(found, exact, strict=True):
        assert (ours - reference).norm() / reference.norm() < 1e-4


def test_more_exact_than_pytorch_in_this_layout(kernels):
    """What the kernels are for: PyTorch adds up the same memory value by value."""
    torch.manual_seed(0)
    shape = (16, 8, 176, 176)
    x, gradient = torch.randn(shape) * 3 + 2, torch.randn(shape) * 1e-3 + 1e-4
    x, gradient = (values.contiguous(memory_format=LAYOUT) for values in (x, gradient))
    exact = step(layers(8, False, torch.float64), x.double(), gradient.double())[2]
    theirs = step(layers(8, False), x, gradient)[2]
    network = layers(8, False)
    use_kernels(network, kernels)
    ours = step(network, x, gradient)[2]
    assert (ours - exact).norm() < (theirs - exact).norm() / 10


def test_equal_values_have_no_variance(kernels):
    network = layers(3, False)
    use_kernels(network, kernels)
    y, x_gradient, *_ = step(
        network, torch.full((2, 3, 8, 8), 7.0).contiguous(memory_format=LAYOUT), torch.ones(2, 3, 8, 8)
    )
    torch.testing.assert_close(y, network[0].bias.detach().double().view(1, 3, 1, 1).expand(2, 3, 8, 8))
    assert torch.isfinite(x_gradient).all()


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(kernels, relu, value):
    """A broken step must show in the loss and not vanish in a ReLU."""
    network = layers(3, relu)
    use_kernels(network, kernels)
    x = torch.randn(2, 3, 8, 8)
    x[1, 2, 3, 4] = value
    y = network(x.contiguous(memory_format=LAYOUT))
    assert not torch.isfinite(y[:, 2]).any()
    assert torch.isfinite(y[:, :2]).all()


@pytest.mark.parametrize("relu", [False, True])
def test_the_result_is_not_kept_for_the_backward_pass(kernels, relu):
    # Half of the blocks' results are copied at once into what the blocks give, and would only take room.
    network = layers(8, relu)
    use_kernels(network, kernels)
    y = network(torch.randn(2, 8, 5, 5, requires_grad=True))
    assert y.data_ptr() not in {kept.data_ptr() for kept in y.grad_fn.saved_tensors}


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_gradients_end_where_relu_has_cut(kernels, scale):
    network = layers(8, True)
    use_kernels(network, kernels)
    x = (torch.randn(4, 8, 9, 9) * scale).contiguous(memory_format=LAYOUT)
    y = network(x)
    y.backward(torch.ones_like(y))
    torch.testing.assert_close(network[0].bias.grad, (y > 0).sum((0, 2, 3)).float(), rtol=0, atol=0)


def test_input_of_another_layout_is_taken(kernels):
    network = layers(5, True)
    use_kernels(network, kernels)
    x, gradient = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 6, 7)
    for ours, reference in zip(
        step(network, x, gradient), step(layers(5, True, torch.float64), x.double(), gradient.double()), strict=True
    ):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5)
