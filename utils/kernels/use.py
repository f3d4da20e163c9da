"""Letting a network train with the layers of this folder in place of PyTorch's."""

from torch import nn

from model.backbone.shufflenetv2 import ShuffleNetV2
from utils.kernels.batchnorm import ChannelsLastBatchNorm
from utils.kernels.depthwise import DepthwiseConv2d, is_taken
from utils.kernels.pooling import BatchNormReluPool


def use_kernels(network, kernels):
    """Let a network's BatchNorm layers, each with the ReLU behind it, and its depthwise convolutions use the kernels.

    In a ShuffleNetV2 the pooling goes with the first BatchNorm. Names and values of the weights stay as they are.

    Args:
        network: nn.Module in float32 on the CPU, whose BatchNorm2d layers have weights and running statistics and lie
            in nn.Sequential modules.
        kernels: Kernels.
    """
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        layers = [None, *sequence, None]
        for number, (front, layer, behind) in enumerate(zip(layers, layers[1:], layers[2:], strict=False)):
            if type(layer) is nn.BatchNorm2d:
                relu = isinstance(behind, nn.ReLU)
                sequence[number] = ChannelsLastBatchNorm(layer, relu, kernels, isinstance(front, nn.Conv2d))
                if relu:
                    sequence[number + 1] = nn.Identity()
            elif is_taken(layer):
                sequence[number] = DepthwiseConv2d(layer, kernels)
    for backbone in [module for module in network.modules() if isinstance(module, ShuffleNetV2)]:
        backbone.first_conv[1] = BatchNormReluPool(backbone.first_conv[1], kernels, may_overwrite=True)
        backbone.maxpool = nn.Identity()
