"""BatchNorm for training on a CPU in channels-last memory, exact and with its ReLU in the same pass.

PyTorch's own adds up a channel's values one by one in float32 there, a million in a batch of 32, and gradients are
wrong by 1 % (benchmarks/batchnorm_precision.py). This one is in utils/kernels/batchnorm.cpp.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from utils.kernels.build import build

LAYOUT = torch.channels_last


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, module):
        x = x.contiguous(memory_format=LAYOUT)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        y = torch.empty_like(x)
        mean, inverse = x.new_empty(channels), x.new_empty(channels)
        tensors = (x, y, rows, channels, weight, bias, module.running_mean, module.running_var, mean, inverse)
        _call(module.kernels.forward, tensors, module.momentum, module.eps, module.relu)
        module.num_batches_tracked += 1
        ctx.save_for_backward(x, y, weight, mean, inverse)
        ctx.module = module
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        x, y, weight, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAYOUT)
        x_gradient = torch.empty_like(x)
        weight_gradient, bias_gradient = torch.empty_like(weight), torch.empty_like(weight)
        rows, channels = x.numel() // x.shape[1], x.shape[1]
        tensors = (gradient, x, y, rows, channels, weight, mean, inverse, x_gradient, weight_gradient, bias_gradient)
        _call(ctx.module.kernels.backward, tensors, ctx.module.relu)
        return x_gradient, weight_gradient, bias_gradient, None


def _call(function, values, *more):
    pointers = (value.data_ptr() if isinstance(value, torch.Tensor) else value for value in values)
    function(*pointers, *more, torch.get_num_threads())


@dataclass(frozen=True)
class Kernels:
    """The compiled functions; a deep copy of a network shares them."""

    forward: object
    backward: object

    def __deepcopy__(self, memo):
        return self


def build_kernels():
    """Compile the kernels for this machine.

    Raises:
        utils.kernels.build.BuildError.
    """
    from ctypes import c_float, c_int, c_long, c_void_p

    library = build("batchnorm.cpp")
    forward, backward = library.batchnorm_forward, library.batchnorm_backward
    sizes = [c_long, c_long]
    forward.argtypes = [c_void_p] * 2 + sizes + [c_void_p] * 6 + [c_float, c_float, c_int, c_int]
    backward.argtypes = [c_void_p] * 3 + sizes + [c_void_p] * 6 + [c_int, c_int]
    forward.restype = backward.restype = None
    return Kernels(forward, backward)


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d and the ReLU behind it, [N, C, H, W] float32 to the same in channels-last memory.

    Made of an nn.BatchNorm2d by `use_kernels`; in evaluation mode it computes what that does.
    """

    relu: bool
    kernels: Kernels

    def forward(self, x):
        if not self.training:
            y = super().forward(x)
            return y.relu_() if self.relu else y
        return _Normalise.apply(x, self.weight, self.bias, self)


def use_kernels(network, kernels):
    """Let a network's BatchNorm layers, and the ReLU layers that follow one in an nn.Sequential, use the kernels.

    Names and values of the weights stay as they are.

    Args:
        network: nn.Module in float32 on the CPU, whose BatchNorm2d layers have weights and running statistics and lie
            in nn.Sequential modules.
        kernels: Kernels.
    """
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for number, (layer, behind) in enumerate(itertools.pairwise([*sequence, None])):
            if type(layer) is not nn.BatchNorm2d:
                continue
            sequence[number] = _with_kernels(layer, kernels, relu=isinstance(behind, nn.ReLU))
            if sequence[number].relu:
                sequence[number + 1] = nn.Identity()


def _with_kernels(layer, kernels, relu):
    new = ChannelsLastBatchNorm(layer.num_features, layer.eps, layer.momentum)
    new.weight, new.bias = layer.weight, layer.bias
    for name, buffer in layer.named_buffers():
        setattr(new, name, buffer)
    new.relu, new.kernels = relu, kernels
    return new.train(layer.training)
