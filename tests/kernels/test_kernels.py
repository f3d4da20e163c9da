"""Layers of utils/kernels for training on a CPU: what PyTorch's compute in float64, and their place in a network."""

import contextlib
import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from model.detector import Detector
from utils.kernels import build as build_module
from utils.kernels.batchnorm import ChannelsLastBatchNorm
from utils.kernels.build import BuildError
from utils.kernels.depthwise import DepthwiseConv2d, is_taken
from utils.kernels.library import Kernels
from utils.kernels.pooling import BatchNormReluPool
from utils.kernels.use import use_kernels

LAYOUT = torch.channels_last


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def step(network, x, gradient):
    """Output, gradients of the input and of the weights, buffers, in float64."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = network(x * 1)
    y.backward(gradient)
    parts = (y.detach(), x.grad, *(weight.grad for weight in network.parameters()), *network.buffers())
    return [part.double() for part in parts]


def random(*size):
    return torch.randn(size).contiguous(memory_format=LAYOUT)


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
def test_depthwise_gradients_equal_float64(kernels, batch, channels, height, width, kernel, stride, count):
    torch.manual_seed(height * width)
    layer = depthwise(channels, kernel, stride)
    x = random(batch, channels, height, width)
    gradient = torch.randn_like(layer(x))
    with threads(count):
        found = step(DepthwiseConv2d(layer, kernels), x, gradient)
    layer.weight.grad = None
    for ours, reference in zip(found, step(layer.double(), x.double(), gradient.double()), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_depthwise_sums_over_many_pixels_are_exact(kernels):
    torch.manual_seed(0)
    layer = depthwise(24, 3, 2)
    x, gradient = random(16, 24, 88, 88) + 3, random(16, 24, 44, 44) + 1
    found = step(DepthwiseConv2d(layer, kernels), x, gradient)
    layer.weight.grad = None
    exact = step(layer.double(), x.double(), gradient.double())
    for ours, reference in zip(found, exact, strict=True):
        assert (ours - reference).norm() / reference.norm() < 1e-6


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
def test_other_layers_stay_pytorchs(layer):
    assert not is_taken(layer)


def norm_and_pool(dtype=torch.float32, channels=8, weight=None):
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, -1, 2)  # also negative: then the smallest of a window becomes the largest
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
def test_normalised_and_pooled_equals_float64(kernels, batch, channels, height, width, count):
    assume(batch * height * width > 3)
    x = random(batch, channels, height, width)
    exact = norm_and_pool(torch.float64, channels)
    gradient = torch.randn(exact(x.double()).shape)
    exact = norm_and_pool(torch.float64, channels)
    with threads(count):
        found = step(nn.Sequential(BatchNormReluPool(norm_and_pool(channels=channels)[0], kernels)), x, gradient)
    for ours, reference in zip(found, step(exact, x.double(), gradient.double()), strict=True):
        torch.testing.assert_close(ours, reference, rtol=2e-3, atol=2e-3 * max(1.0, float(reference.abs().max())))


def test_pooling_many_pixels_is_exact(kernels):
    torch.manual_seed(0)
    x, gradient = random(8, 24, 176, 176) * 3 + 5, random(8, 24, 88, 88) + 0.1
    found = step(nn.Sequential(BatchNormReluPool(norm_and_pool(channels=24)[0], kernels)), x, gradient)
    exact = step(norm_and_pool(torch.float64, 24), x.double(), gradient.double())
    for ours, reference, limit in zip(found, exact, (1e-6, 1e-4, 1e-5, 1e-5, 1e-5, 1e-5, 0.5), strict=True):
        assert (ours - reference).norm() <= limit * reference.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_when_pooled(kernels, value):
    x = random(2, 8, 9, 9)
    x[1, 2, 3, 4] = value
    y = BatchNormReluPool(norm_and_pool()[0], kernels)(x)
    assert not torch.isfinite(y[:, 2]).any()
    assert torch.isfinite(y[:, [0, 1, 3]]).all()


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_silent_channel_gets_what_pytorch_gives_it(kernels, weight):
    x, gradient = random(2, 8, 8, 8), random(2, 8, 4, 4)
    found = step(nn.Sequential(BatchNormReluPool(norm_and_pool(weight=weight)[0], kernels)), x, gradient)
    exact = step(norm_and_pool(torch.float64, weight=weight), x.double(), gradient.double())
    for number in (0, 1, 3):  # of windows of equal values each takes another pixel, which the weight's gradient shows
        torch.testing.assert_close(found[number], exact[number], rtol=1e-4, atol=1e-5)


def test_evaluation_is_pytorchs(kernels):
    plain = norm_and_pool().eval()
    x = random(2, 8, 9, 9)
    ours = BatchNormReluPool(plain[0], kernels)
    with torch.inference_mode():
        assert torch.equal(ours(x), plain(x))
        layer = depthwise(8, 3, 2)
        assert torch.equal(DepthwiseConv2d(layer, kernels)(x), layer(x))


def test_a_detector_keeps_its_weights_and_what_it_computes(kernels):
    torch.manual_seed(0)
    plain = Detector(2, 3)
    ours = copy.deepcopy(plain)
    use_kernels(ours, kernels)
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert sum(isinstance(module, ChannelsLastBatchNorm) for module in ours.modules()) == 73
    assert sum(isinstance(module, DepthwiseConv2d) for module in ours.modules()) == 27
    assert isinstance(ours.backbone.first_conv[1], BatchNormReluPool)
    images = torch.rand(4, 3, 96, 96)
    plain.train()
    ours.train()
    for _ in range(2):
        results = []
        for network in (plain, ours):
            network.zero_grad()
            output = network(images.contiguous(memory_format=LAYOUT) if network is ours else images)
            sum(values.square().mean() for scale in output for values in scale).backward()
            results.append([values.detach() for scale in output for values in scale])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3)
        gradients = [torch.cat([p.grad.flatten() for p in network.parameters()]) for network in (plain, ours)]
        # Rounding grows through 73 normalisations and moves values across ReLU's edge; a wrong term would give 1.
        assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 3e-2
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-5)
    # A copy, as an average of the weights is one, evaluates as the network does.
    again = copy.deepcopy(ours).eval()
    plain.load_state_dict(again.state_dict())
    with torch.inference_mode():
        for found, expected in zip(again(images), plain.eval()(images), strict=True):
            torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("compiler", "expected"),
    [("no-such-compiler", "no C\\+\\+ compiler"), ("false", "exit status 1"), ("true", "does not load")],
)
def test_no_working_compiler(monkeypatch, compiler, expected):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(BuildError, match=expected):
        Kernels()


def test_what_the_compiler_says_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken.cpp").write_text("int f( { return 0; }\n")
    monkeypatch.setattr(build_module, "FOLDER", tmp_path)
    with pytest.raises(BuildError, match=r"broken\.cpp"):
        build_module.build("broken.cpp")


def test_gradients_go_over_what_they_were_computed_from_once(kernels):
    """Behind a convolution, whose own gradients do not need its output."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).to(memory_format=LAYOUT)
    network = copy.deepcopy(plain)
    use_kernels(network, kernels)
    x, gradient = random(2, 8, 9, 9), random(2, 8, 7, 7)
    for layers in (plain, network):
        layers(x).backward(gradient)
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(network.get_parameter(name).grad, weight.grad, rtol=1e-3, atol=1e-5)
    y = network(x)
    y.backward(gradient, retain_graph=True)
    with pytest.raises(RuntimeError, match="expected one backward pass"):
        y.backward(gradient)


@pytest.mark.parametrize("front", [nn.ReLU(), nn.Identity(), nn.Sigmoid()])
def test_what_another_layer_needs_stays(kernels, front):
    """The output of an activation is what its gradient is computed from."""
    torch.manual_seed(0)
    plain = nn.Sequential(front, nn.BatchNorm2d(8))
    network = copy.deepcopy(plain)
    use_kernels(network, kernels)
    x, gradient = random(2, 8, 9, 9), random(2, 8, 9, 9)
    found, expected = (step(layers, x, gradient)[1] for layers in (network, plain))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
