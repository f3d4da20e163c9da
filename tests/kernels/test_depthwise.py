"""Depthwise convolution kernels against PyTorch in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.kernel_layers import random_tensor, step, threads
from utils.kernels.depthwise import DepthwiseConv2d, is_supported

pytestmark = pytest.mark.usefixtures("kernels")


def depthwise(channels, kernel, stride):
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.sampled_from([8, 16, 24, 72]),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    kernel=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    count=st.integers(1, 5),
)
def test_depthwise_gradients_equal_float64(batch, channels, height, width, kernel, stride, count):
    torch.manual_seed(height * width)
    layer = depthwise(channels, kernel, stride)
    x = random_tensor(batch, channels, height, width)
    gradient = torch.randn_like(layer(x))
    with threads(count):
        found = step(DepthwiseConv2d(layer), x, gradient)
    layer.weight.grad = None
    for actual, expected in zip(found, step(layer.double(), x.double(), gradient.double()), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_depthwise_sums_over_many_pixels_are_exact():
    torch.manual_seed(0)
    layer = depthwise(24, 3, 2)
    x, gradient = random_tensor(16, 24, 88, 88) + 3, random_tensor(16, 24, 44, 44) + 1
    found = step(DepthwiseConv2d(layer), x, gradient)
    layer.weight.grad = None
    exact = step(layer.double(), x.double(), gradient.double())
    for actual, expected in zip(found, exact, strict=True):
        assert (actual - expected).norm() / expected.norm() < 1e-6


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 7, padding=3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, dilation=2, groups=8, bias=False),
        nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8, bias=False),
        nn.ReLU(),
    ],
)
def test_other_convolutions_are_not_supported(layer):
    assert not is_supported(layer)


def test_evaluation_equals_pytorch():
    layer = depthwise(8, 3, 2)
    x = random_tensor(2, 8, 9, 9)
    with torch.inference_mode():
        assert torch.equal(DepthwiseConv2d(layer)(x), layer(x))
