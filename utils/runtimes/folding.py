"""BatchNorm folded into the convolutions in front of it, for inference: the same function in fewer steps."""

import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(network):
    """Fold every BatchNorm2d that follows a Conv2d in an nn.Sequential into it, in place.

    Args:
        network: nn.Module; it is put into evaluation mode, for which alone this holds.
    Returns:
        the network.
    """
    network.eval()
    for sequence in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for number, (layer, behind) in enumerate(itertools.pairwise(sequence)):
            if isinstance(layer, nn.Conv2d) and type(behind) is nn.BatchNorm2d:
                sequence[number] = fuse_conv_bn_eval(layer, behind)
                sequence[number + 1] = nn.Identity()
    return network
