"""Depthwise convolutions for training on a CPU in channels-last memory: PyTorch's forward, gradients of our own.

PyTorch's gradients take half as long again; together with the rest of this folder see benchmarks/README.md.
"""

import torch
import torch.nn.functional as F
from torch import nn

from utils.kernels.library import LAYOUT

LANES = 8  # channels that are computed at a time
KERNELS, STRIDES = (3, 5), (1, 2)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, module):
        x = x.contiguous(memory_format=LAYOUT)
        ctx.save_for_backward(x, weight)
        ctx.module = module
        return F.conv2d(x, weight, None, module.stride, module.padding, 1, module.groups)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        images, channels, height, width = x.shape
        (kernel, _), (stride, _) = ctx.module.kernel_size, ctx.module.stride
        taps = weight.reshape(channels, kernel * kernel).t().contiguous()
        x_gradient, taps_gradient = torch.empty_like(x), torch.empty_like(taps)
        tensors = (gradient, x, taps, x_gradient, taps_gradient)
        ctx.module.kernels("depthwise_backward", *tensors, images, height, width, channels, kernel, stride)
        return x_gradient, taps_gradient.t().reshape(weight.shape), None


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d of one filter a channel, [N, C, H, W] float32 to [N, C, ⌈H/stride⌉, ⌈W/stride⌉], channels last.

    Args:
        layer: the nn.Conv2d that it takes the place of, for which `is_taken` is true, and whose weights it shares.
        kernels: Kernels.
    """

    def __init__(self, layer, kernels):
        size = (layer.kernel_size, layer.stride, layer.padding)
        super().__init__(layer.in_channels, layer.out_channels, *size, groups=layer.groups, bias=False, device="meta")
        self.weight, self.kernels = layer.weight, kernels
        self.train(layer.training)

    def forward(self, x):
        return _Convolve.apply(x, self.weight, self) if torch.is_grad_enabled() else super().forward(x)


def is_taken(layer):
    """Whether a layer is a convolution that DepthwiseConv2d can take the place of."""
    return (
        type(layer) is nn.Conv2d
        and layer.in_channels == layer.out_channels == layer.groups
        and layer.in_channels % LANES == 0
        and layer.bias is None
        and layer.kernel_size in [(size, size) for size in KERNELS]
        and layer.stride in [(step, step) for step in STRIDES]
        and layer.padding == tuple(size // 2 for size in layer.kernel_size)
        and layer.dilation == (1, 1)
    )
