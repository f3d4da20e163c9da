"""An exponential moving average of a network's weights, which detects better than the last step's weights."""

import copy
import math

import torch

DECAY = 0.9998
RAMP = 2000  # steps over which the average's memory grows to what DECAY gives


def average_of(network):
    """A copy of the network that starts an average."""
    average = copy.deepcopy(network).eval()
    return average.requires_grad_(False)


@torch.no_grad()
def update_average(average, network, step):
    """Move the average towards the network after optimiser step number `step` (from 1).

    The decay is DECAY · (1 − exp(−step / RAMP)): early weights, which are far off, are forgotten soon.
    BatchNorm's running statistics are averaged like weights; counters are copied.
    """
    decay = DECAY * (1 - math.exp(-step / RAMP))
    own, new = average.state_dict(), network.state_dict()
    floats = [name for name, tensor in own.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([own[name] for name in floats], [new[name] for name in floats], 1 - decay)
    for name in own.keys() - set(floats):
        own[name].copy_(new[name])
