"""BatchNorm, ReLU and max pooling as one step of training on a CPU, in channels-last memory.

Behind the first convolution, what they would write and read again one after the other is four times as large as their
result: 95 MB at batch 32.
"""

import torch
import torch.nn.functional as F

from utils.kernels.batchnorm import ChannelsLastBatchNorm, room_for_gradient
from utils.kernels.library import LAYOUT

KERNEL, STRIDE, PADDING = 3, 2, 1  # of the pooling


class _NormaliseAndPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, module):
        x = x.contiguous(memory_format=LAYOUT)
        images, channels, height, width = x.shape
        size = images, channels, (height + 1) // STRIDE, (width + 1) // STRIDE
        y = torch.empty(size, memory_format=LAYOUT)
        largest = torch.empty(size, dtype=torch.uint8, memory_format=LAYOUT)
        mean, inverse = x.new_empty(channels), x.new_empty(channels)
        tensors = (weight, bias, module.running_mean, module.running_var, mean, inverse)
        sizes = (images, height, width, channels)
        module.kernels("batchnorm_pool_forward", x, y, largest, *sizes, *tensors, module.momentum, module.eps)
        module.num_batches_tracked += 1
        ctx.save_for_backward(x, largest, weight, mean, inverse)
        ctx.module = module
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, largest, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        x_gradient = room_for_gradient(ctx, x)
        weight_gradient, bias_gradient = torch.empty_like(weight), torch.empty_like(weight)
        images, channels, height, width = x.shape
        tensors = (weight, mean, inverse, x_gradient, weight_gradient, bias_gradient)
        ctx.module.kernels("batchnorm_pool_backward", gradient, x, largest, images, height, width, channels, *tensors)
        return x_gradient, weight_gradient, bias_gradient, None


class BatchNormReluPool(ChannelsLastBatchNorm):
    """nn.BatchNorm2d, ReLU and nn.MaxPool2d(3, 2, 1), [N, C, H, W] float32 to [N, C, ⌈H/2⌉, ⌈W/2⌉], channels last.

    Args:
        layer, kernels, may_overwrite: as for ChannelsLastBatchNorm.
    """

    def __init__(self, layer, kernels, may_overwrite=False):
        super().__init__(layer, True, kernels, may_overwrite)

    def forward(self, x):
        if not self.training:
            return F.max_pool2d(super().forward(x), KERNEL, STRIDE, PADDING)
        return _NormaliseAndPool.apply(x, self.weight, self.bias, self)
