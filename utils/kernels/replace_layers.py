"""Replace the layers of a network by the layers of this folder."""

from torch import nn

from model.backbone.shufflenetv2 import ShuffleNetV2
from utils.kernels.batchnorm import ChannelsLastBatchNorm
from utils.kernels.depthwise import DepthwiseConv2d, is_supported
from utils.kernels.library import get_kernels
from utils.kernels.pooling import BatchNormReluPool


def use_kernels(network: nn.Module) -> None:
    """Compile the kernels, and replace depthwise convolutions and BatchNorm layers, each with the ReLU after it.

    In a ShuffleNetV2, the max pooling is fused with the first BatchNorm. The weights keep their names and values.

    Args:
        network: in float32 on the CPU; its BatchNorm2d layers have weights and running statistics and are in
            nn.Sequential modules.

    Raises:
        BuildError: the kernels cannot be compiled; the network is unchanged.
    """
    get_kernels()
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        layers = [None, *sequence, None]
        for index, (previous, layer, following) in enumerate(zip(layers, layers[1:], layers[2:], strict=False)):
            if type(layer) is nn.BatchNorm2d:
                relu = isinstance(following, nn.ReLU)
                sequence[index] = ChannelsLastBatchNorm(layer, relu, overwrite_input=isinstance(previous, nn.Conv2d))
                if relu:
                    sequence[index + 1] = nn.Identity()
            elif is_supported(layer):
                sequence[index] = DepthwiseConv2d(layer)
    for backbone in [module for module in network.modules() if isinstance(module, ShuffleNetV2)]:
        backbone.first_conv[1] = BatchNormReluPool(backbone.first_conv[1], overwrite_input=True)
        backbone.maxpool = nn.Identity()
