"""A detector with random weights that finds different things in different pictures, for tests without released ones."""

import torch
from torch import nn

from model.detector import Detector

GAIN = 3  # of the output layers: spreads the scores over 0.01 to 0.95


def save_random_weights(path, classes=2, anchor_num=3):
    """Write the weights file, always the same for the same arguments; the path."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        detector = Detector(classes, anchor_num)
        for module in detector.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1  # the next pass alone says the statistics
        detector.train()(nn.functional.interpolate(torch.rand(8, 3, 6, 8), (64, 96), mode="bicubic"))
        for layer in (detector.output_reg_layers, detector.output_obj_layers, detector.output_cls_layers):
            layer.weight.mul_(GAIN)
    torch.save(detector.state_dict(), path)
    return path
