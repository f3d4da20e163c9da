"""Running an exported NCNN model, a .ncnn.param file with its .ncnn.bin and .json."""

from pathlib import Path

import cv2
import numpy as np
import torch

from utils.errors import InputError
from utils.optional import require
from utils.runtimes.base import Runtime, split_maps
from utils.runtimes.model_info import from_content, read_json
from utils.runtimes.ncnn_format import read_model

PARAM_SUFFIX, BIN_SUFFIX, INFO_SUFFIX = ".ncnn.param", ".ncnn.bin", ".json"
INPUT, OUTPUTS = "in0", ("out0", "out1")


class NcnnRuntime(Runtime):
    """A model that pytorch2onnx.py has exported for NCNN, on the CPU.

    Args:
        path: of the .ncnn.param file; the others lie beside it.
        threads: how many it may use; None: all cores.
    Raises:
        InputError: a file is missing, damaged, or not one of ours.
    """

    name = "NCNN"
    device = torch.device("cpu")

    def __init__(self, path, threads=None):
        self.info = read_info(path)
        self.anchors, self.precision = self.info.anchors, self.info.precision
        self.net = open_net(path, bin_path(path), threads)
        self.device_name = f"cpu ({threads} threads)" if threads else "cpu"

    def prepare(self, images):
        return [to_planes(image) for image in np.asarray(images)]

    def execute(self, prepared):
        results = [extract(self.net, planes, OUTPUTS) for planes in prepared]
        maps = (torch.from_numpy(np.stack(parts)) for parts in zip(*results, strict=True))
        return split_maps(maps, self.info.anchor_num)


def open_runtime(path, threads=None):
    """NcnnRuntime of a file, see there."""
    return NcnnRuntime(path, threads)


def bin_path(param_path):
    """Where the weights of a .ncnn.param file are."""
    return _sibling(param_path, BIN_SUFFIX)


def info_path(param_path):
    """Where the description of a .ncnn.param file is."""
    return _sibling(param_path, INFO_SUFFIX)


def read_info(param_path):
    """ModelInfo of a .ncnn.param file.

    Raises:
        InputError: there is none, or a wrong one.
    """
    path = info_path(param_path)
    return from_content(read_json(path), path)


def open_net(param_path, weights_path, threads=None):
    """An ncnn.Net.

    Raises:
        InputError: the files are damaged.
    """
    ncnn = require("ncnn", f"{param_path}: running NCNN models")
    # NCNN itself prints what is wrong with a file, and crashes on some.
    read_model(Path(param_path), Path(weights_path))
    net = ncnn.Net()
    if threads:
        net.opt.num_threads = threads
    if net.load_param(str(param_path)) or net.load_model(str(weights_path)):
        raise InputError(f"{param_path}: expected a model of NCNN's, which its runtime cannot load")
    return net


def to_planes(image):
    """One image [H, W, 3] uint8 BGR as the network's input, [3, H, W] float32 0…1."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    # By OpenCV and plane by plane this takes two thirds of the time of NCNN's own conversion.
    for values, plane in zip(cv2.split(image), planes, strict=True):
        np.multiply(values, np.float32(1 / 255), out=plane)
    return planes


def extract(net, planes, names, keep=False):
    """Blobs of a net by their names, as arrays [channels, rows, columns].

    Args:
        net: ncnn.Net.
        planes: [channels, rows, columns] float32 array, the network's input.
        keep: whether blobs inside the network are asked for, which it would otherwise overwrite.
    """
    import ncnn

    extractor = net.create_extractor()
    extractor.set_light_mode(not keep)
    extractor.input(INPUT, ncnn.Mat(planes))  # a view: the array lives as long as the extractor needs it
    # The arrays are views of memory that belongs to the extractor.
    return [np.array(extractor.extract(name)[1]) for name in names]


def _sibling(param_path, suffix):
    text = str(param_path)
    if not text.endswith(PARAM_SUFFIX):
        raise InputError(f"{param_path}: expected a name that ends with {PARAM_SUFFIX}")
    return Path(text.removesuffix(PARAM_SUFFIX) + suffix)
