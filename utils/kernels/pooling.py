"""BatchNorm, ReLU and max pooling in one step, for training on a CPU in channels-last memory.

After the first convolution, the intermediate results of these layers are four times as large as their output: 95 MB at
batch size 32. In one step they are not written to memory.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx, once_differentiable

from utils.kernels.batchnorm import ChannelsLastBatchNorm, allocate_gradient
from utils.kernels.library import LAYOUT, call_kernel

KERNEL, STRIDE, PADDING = 3, 2, 1  # of the pooling


class _BatchNormReluPool(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, layer: "BatchNormReluPool") -> Tensor:
        x = x.contiguous(memory_format=LAYOUT)
        images, channels, height, width = x.shape
        size = images, channels, (height + 1) // STRIDE, (width + 1) // STRIDE
        y = torch.empty(size, memory_format=LAYOUT)
        argmax = torch.empty(size, dtype=torch.uint8, memory_format=LAYOUT)
        mean, inverse = x.new_empty(channels), x.new_empty(channels)
        tensors = (weight, bias, layer.running_mean, layer.running_var, mean, inverse)
        sizes = (images, height, width, channels)
        call_kernel("batchnorm_pool_forward", x, y, argmax, *sizes, *tensors, layer.momentum, layer.eps)
        layer.num_batches_tracked += 1
        ctx.save_for_backward(x, argmax, weight, mean, inverse)
        ctx.layer = layer
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, argmax, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        gradients = allocate_gradient(ctx, x), torch.empty_like(weight), torch.empty_like(weight)
        images, channels, height, width = x.shape
        sizes = (images, height, width, channels)
        call_kernel("batchnorm_pool_backward", gradient, x, argmax, *sizes, weight, mean, inverse, *gradients)
        return *gradients, None


class BatchNormReluPool(ChannelsLastBatchNorm):
    """nn.BatchNorm2d, ReLU and nn.MaxPool2d(3, 2, 1), float32 [N, C, H, W] to [N, C, ⌈H/2⌉, ⌈W/2⌉], channels last.

    Args:
        layer: the nn.BatchNorm2d to replace; the weights are shared.
        overwrite_input: as for ChannelsLastBatchNorm.
    """

    def __init__(self, layer: nn.BatchNorm2d, overwrite_input: bool = False) -> None:
        super().__init__(layer, True, overwrite_input)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.max_pool2d(super().forward(x), KERNEL, STRIDE, PADDING)
        return _BatchNormReluPool.apply(x, self.weight, self.bias, self)
