"""BatchNorm, ReLU and pooling in one step against PyTorch in float64."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.kernel_layers import random_tensor, step, threads
from utils.kernels.pooling import BatchNormReluPool

pytestmark = pytest.mark.usefixtures("kernels")


def norm_and_pool(dtype=torch.float32, channels=8, weight=None):
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -1, 2)  # with a negative weight the smallest value of a window becomes the largest
    nn.init.normal_(norm.bias)
    if weight is not None:
        nn.init.constant_(norm.weight, weight)
    return nn.Sequential(norm, nn.ReLU(), nn.MaxPool2d(3, 2, 1)).to(dtype)


@settings(max_examples=80, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.sampled_from([8, 24, 40]),
    height=st.integers(1, 15),
    width=st.integers(1, 15),
    count=st.integers(1, 5),
)
def test_norm_and_pool_equals_float64(batch, channels, height, width, count):
    assume(batch * height * width > 3)
    x = random_tensor(batch, channels, height, width)
    exact = norm_and_pool(torch.float64, channels)
    gradient = torch.randn(exact(x.double()).shape)
    exact = norm_and_pool(torch.float64, channels)
    with threads(count):
        found = step(nn.Sequential(BatchNormReluPool(norm_and_pool(channels=channels)[0])), x, gradient)
    for actual, expected in zip(found, step(exact, x.double(), gradient.double()), strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-3, atol=2e-3 * max(1.0, float(expected.abs().max())))


def test_pooling_many_pixels_is_exact():
    torch.manual_seed(0)
    x, gradient = random_tensor(8, 24, 176, 176) * 3 + 5, random_tensor(8, 24, 88, 88) + 0.1
    found = step(nn.Sequential(BatchNormReluPool(norm_and_pool(channels=24)[0])), x, gradient)
    exact = step(norm_and_pool(torch.float64, 24), x.double(), gradient.double())
    for actual, expected, limit in zip(found, exact, (1e-6, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5, 0.5), strict=True):
        assert (actual - expected).norm() <= limit * expected.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_kept(value):
    x = random_tensor(2, 8, 9, 9)
    x[1, 2, 3, 4] = value
    y = BatchNormReluPool(norm_and_pool()[0])(x)
    assert not torch.isfinite(y[:, 2]).any()
    assert torch.isfinite(y[:, [0, 1, 3]]).all()


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_channel_without_positive_values_equals_pytorch(weight):
    x, gradient = random_tensor(2, 8, 8, 8), random_tensor(2, 8, 4, 4)
    found = step(nn.Sequential(BatchNormReluPool(norm_and_pool(weight=weight)[0])), x, gradient)
    exact = step(norm_and_pool(torch.float64, weight=weight), x.double(), gradient.double())
    # Not the weight's gradient (index 2): in windows of equal values, the two select different pixels.
    for index in (0, 1, 3):
        torch.testing.assert_close(found[index], exact[index], rtol=1e-4, atol=1e-5)


def test_evaluation_equals_pytorch():
    plain = norm_and_pool().eval()
    x = random_tensor(2, 8, 9, 9)
    with torch.inference_mode():
        assert torch.equal(BatchNormReluPool(plain[0])(x), plain(x))
