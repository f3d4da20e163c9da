"""Networks whose layers were replaced by use_kernels."""

import copy

import pytest
import torch
from torch import nn

from model.detector import Detector
from tests.helpers.kernel_layers import LAYOUT, random_tensor, step
from utils.kernels.batchnorm import ChannelsLastBatchNorm
from utils.kernels.depthwise import DepthwiseConv2d
from utils.kernels.pooling import BatchNormReluPool
from utils.kernels.replace_layers import use_kernels

pytestmark = pytest.mark.usefixtures("kernels")


def test_a_detector_keeps_its_weights_and_its_outputs():
    torch.manual_seed(0)
    plain = Detector(2, 3)
    ours = copy.deepcopy(plain)
    use_kernels(ours)
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
        # Rounding errors grow through 73 BatchNorm layers and move values across 0 at ReLU; a wrong term would give 1.
        assert (gradients[0] - gradients[1]).norm() / gradients[0].norm() < 3e-2
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-4, atol=1e-5)
    # A copy, such as the EMA, gives the same outputs as the network.
    again = copy.deepcopy(ours).eval()
    plain.load_state_dict(again.state_dict())
    with torch.inference_mode():
        for found, expected in zip(again(images), plain.eval()(images), strict=True):
            torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-3, atol=1e-4)


def test_gradients_overwrite_the_saved_input_only_once():
    """After a convolution, whose own gradients do not need its output."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).to(memory_format=LAYOUT)
    network = copy.deepcopy(plain)
    use_kernels(network)
    x, gradient = random_tensor(2, 8, 9, 9), random_tensor(2, 8, 7, 7)
    for layers in (plain, network):
        layers(x).backward(gradient)
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(network.get_parameter(name).grad, weight.grad, rtol=1e-3, atol=1e-5)
    y = network(x)
    y.backward(gradient, retain_graph=True)
    with pytest.raises(RuntimeError, match="expected one backward pass"):
        y.backward(gradient)


@pytest.mark.parametrize("previous", [nn.ReLU(), nn.Identity(), nn.Sigmoid()])
def test_an_input_that_another_layer_needs_is_not_overwritten(previous):
    """The gradient of an activation is computed from its output."""
    torch.manual_seed(0)
    plain = nn.Sequential(previous, nn.BatchNorm2d(8))
    network = copy.deepcopy(plain)
    use_kernels(network)
    x, gradient = random_tensor(2, 8, 9, 9), random_tensor(2, 8, 9, 9)
    found, expected = (step(layers, x, gradient)[1] for layers in (network, plain))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
