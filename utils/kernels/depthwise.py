"""Depthwise convolutions for training on a CPU in channels-last memory: PyTorch's forward pass, our backward pass.

PyTorch's backward pass takes 1.5 times as long. For the effect of all kernels together see docs/benchmarks.md.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx, once_differentiable

from utils.kernels.library import LAYOUT, call_kernel

LANES = 8  # channels computed at a time, as in rows.h
KERNELS, STRIDES = (3, 5), (1, 2)


class _DepthwiseConv(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, layer: "DepthwiseConv2d") -> Tensor:
        x = x.contiguous(memory_format=LAYOUT)
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return F.conv2d(x, weight, None, layer.stride, layer.padding, 1, layer.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        images, channels, height, width = x.shape
        (kernel, _), (stride, _) = ctx.layer.kernel_size, ctx.layer.stride
        taps = weight.reshape(channels, kernel * kernel).t().contiguous()
        x_gradient, taps_gradient = torch.empty_like(x), torch.empty_like(taps)
        tensors = (gradient, x, taps, x_gradient, taps_gradient)
        call_kernel("depthwise_backward", *tensors, images, height, width, channels, kernel, stride)
        return x_gradient, taps_gradient.t().reshape(weight.shape), None


class DepthwiseConv2d(nn.Conv2d):
    """nn.Conv2d with one filter per channel, float32 [N, C, H, W] to [N, C, ⌈H/stride⌉, ⌈W/stride⌉], channels last.

    Args:
        layer: the nn.Conv2d to replace, for which `is_supported` is true; the weights are shared.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        size = (layer.kernel_size, layer.stride, layer.padding)
        super().__init__(layer.in_channels, layer.out_channels, *size, groups=layer.groups, bias=False, device="meta")
        self.weight = layer.weight
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        return _DepthwiseConv.apply(x, self.weight, self) if torch.is_grad_enabled() else super().forward(x)


def is_supported(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution that DepthwiseConv2d can replace."""
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
