"""BatchNorm for training on a CPU in channels-last memory: exact, and fused with the ReLU after it.

In this memory format PyTorch's BatchNorm adds up the values of a channel one by one in float32, a million values in a
batch of 32, and its gradients are wrong by 1 % (benchmarks/batchnorm_precision.py).
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx, once_differentiable

from utils.kernels.library import LAYOUT, call_kernel


class _BatchNorm(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, layer: "ChannelsLastBatchNorm") -> Tensor:
        x = x.contiguous(memory_format=LAYOUT)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        y = torch.empty_like(x)
        mean, inverse = x.new_empty(channels), x.new_empty(channels)
        tensors = (x, y, rows, channels, weight, bias, layer.running_mean, layer.running_var, mean, inverse)
        call_kernel("batchnorm_forward", *tensors, layer.momentum, layer.eps, layer.relu)
        layer.num_batches_tracked += 1
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.layer = layer
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        gradients = allocate_gradient(ctx, x), torch.empty_like(weight), torch.empty_like(weight)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        tensors = (gradient, x, rows, channels, weight, bias, mean, inverse, *gradients)
        call_kernel("batchnorm_backward", *tensors, ctx.layer.relu)
        return *gradients, None


def allocate_gradient(ctx: FunctionCtx, x: Tensor) -> Tensor:
    """Return a tensor for the gradient of a layer's input: the input itself if `overwrite_input` is set.

    This halves the memory that a backward pass allocates, and avoids memory fragmentation.
    """
    if not ctx.layer.overwrite_input:
        return torch.empty_like(x)
    if getattr(ctx, "overwritten", False):
        raise RuntimeError("expected one backward pass: the first one has overwritten the saved input with gradients")
    ctx.overwritten = True
    return x


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d and the ReLU after it, float32 [N, C, H, W] to [N, C, H, W] in channels-last memory.

    In evaluation mode it calls PyTorch's layers.

    Args:
        layer: the nn.BatchNorm2d to replace; the weights are shared.
        relu: whether to apply ReLU.
        overwrite_input: whether the gradient may overwrite the input. Only if no other layer needs the input, such as
            the output of a convolution, which the convolution's backward pass does not need.
    """

    def __init__(self, layer: nn.BatchNorm2d, relu: bool, overwrite_input: bool = False) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.weight, self.bias = layer.weight, layer.bias
        for name, buffer in layer.named_buffers():
            setattr(self, name, buffer)
        self.relu, self.overwrite_input = relu, overwrite_input
        self.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            y = super().forward(x)
            return y.relu_() if self.relu else y
        return _BatchNorm.apply(x, self.weight, self.bias, self)
