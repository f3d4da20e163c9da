"""BatchNorm for training on a CPU in channels-last memory, exact and with its ReLU in the same pass.

PyTorch's own adds up a channel's values one by one in float32 there, a million in a batch of 32, and gradients are
wrong by 1 % (benchmarks/batchnorm_precision.py).
"""

import torch
from torch import nn

from utils.kernels.library import LAYOUT, Kernels


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, module):
        x = x.contiguous(memory_format=LAYOUT)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        y = torch.empty_like(x)
        mean, inverse = x.new_empty(channels), x.new_empty(channels)
        tensors = (x, y, rows, channels, weight, bias, module.running_mean, module.running_var, mean, inverse)
        module.kernels("batchnorm_forward", *tensors, module.momentum, module.eps, module.relu)
        module.num_batches_tracked += 1
        ctx.save_for_backward(x, weight, bias, mean, inverse)
        ctx.module = module
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, weight, bias, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        x_gradient = room_for_gradient(ctx, x)
        weight_gradient, bias_gradient = torch.empty_like(weight), torch.empty_like(weight)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        gradients = x_gradient, weight_gradient, bias_gradient
        tensors = (gradient, x, rows, channels, weight, bias, mean, inverse, *gradients)
        ctx.module.kernels("batchnorm_backward", *tensors, ctx.module.relu)
        return *gradients, None


def room_for_gradient(ctx, x):
    """Where the gradient of a layer's input goes: over the input itself where nothing else will read that.

    Half of what a backward pass allocates is saved so, and with it the gaps that large blocks of all sizes leave.
    """
    if not ctx.module.may_overwrite:
        return torch.empty_like(x)
    if getattr(ctx, "overwritten", False):
        raise RuntimeError("expected one backward pass: the first has written gradients over what it was computed from")
    ctx.overwritten = True
    return x


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d and the ReLU behind it, [N, C, H, W] float32 to the same in channels-last memory.

    In evaluation mode it computes what nn.BatchNorm2d does.

    Args:
        layer: the nn.BatchNorm2d that it takes the place of, and whose weights it shares.
        relu: whether a ReLU is behind it.
        kernels: Kernels.
        may_overwrite: whether its input is of no use to the backward pass of the layer in front, as a convolution's
            output is, and to nothing else.
    """

    def __init__(self, layer, relu, kernels: Kernels, may_overwrite=False):
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.weight, self.bias = layer.weight, layer.bias
        for name, buffer in layer.named_buffers():
            setattr(self, name, buffer)
        self.relu, self.kernels, self.may_overwrite = relu, kernels, may_overwrite
        self.train(layer.training)

    def forward(self, x):
        if not self.training:
            y = super().forward(x)
            return y.relu_() if self.relu else y
        return _Normalise.apply(x, self.weight, self.bias, self)
