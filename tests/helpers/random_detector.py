"""A detector with random weights whose detections differ between images, for tests without released weights."""

from collections import OrderedDict

import torch
from torch import nn

from model.detector import Detector
from utils.config import read_config
from utils.weights.model_description import ModelDescription

GAIN = 3  # of the output layers: spreads the scores over 0.01 to 0.95


def measure_batchnorm(detector):
    """Set the BatchNorm statistics from one pass over seeded random images, so that activations are of order 1."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        images = nn.functional.interpolate(torch.rand(8, 3, 6, 8), (64, 96), mode="bicubic")
    momenta = {module: module.momentum for module in detector.modules() if isinstance(module, nn.BatchNorm2d)}
    for module in momenta:
        module.momentum = 1  # the next pass alone decides the statistics
    with torch.no_grad():
        detector.train()(images)
    for module, momentum in momenta.items():
        module.momentum = momentum


def save_random_weights(path, classes=2, anchor_num=3):
    """Write a weights file that depends only on `classes` and `anchor_num`; return its path."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        detector = Detector(classes, anchor_num)
        measure_batchnorm(detector)
        for layer in (detector.output_reg_layers, detector.output_obj_layers, detector.output_cls_layers):
            layer.weight.mul_(GAIN)
    torch.save(detector.state_dict(), path)
    return path


def add_description(path, data, **entries):
    """Add to a weights file the description of a .data file, as train.py does; `entries` replace its own."""
    state = OrderedDict(torch.load(path, weights_only=True))
    state.description = ModelDescription.from_config(read_config(data)).to_dict() | entries
    torch.save(state, path)
