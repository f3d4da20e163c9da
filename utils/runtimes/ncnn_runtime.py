"""Run an exported NCNN model: NAME.ncnn.param, NAME.ncnn.bin and NAME.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model import DetectorOutput
from utils.errors import InputError
from utils.optional import require
from utils.runtimes.exported import ExportedRuntime, split_maps
from utils.runtimes.model_info import ModelInfo
from utils.runtimes.ncnn_format import PARAM_SUFFIX, bin_path, read_model
from utils.runtimes.ncnn_shapes import INPUT, check_network

if TYPE_CHECKING:
    import ncnn
    import torch

INFO_SUFFIX = ".json"
OUTPUTS = ("out0", "out1")


class NcnnRuntime(ExportedRuntime):
    """A model exported by pytorch2onnx.py for NCNN, on the CPU.

    Args:
        path: .ncnn.param file; the other files are in the same folder.

    Raises:
        InputError: a file is missing or damaged, or pytorch2onnx.py did not write it.
    """

    name = "NCNN"

    def __init__(self, path: str | Path) -> None:
        super().__init__(ModelInfo.from_json(Path(str(path).removesuffix(PARAM_SUFFIX) + INFO_SUFFIX)))
        self.path = Path(path)
        # Check before NCNN reads the files: it prints its own messages about damaged ones, and crashes on some.
        found = check_network(self.path, read_model(self.path), self.info.size)
        expected = dict(zip(OUTPUTS, self.info.map_shapes, strict=True))
        if found != expected:
            raise InputError(f"{path}: expected outputs of the shapes {expected}, got {found}")
        self.net = open_net(self.path)

    def set_threads(self, count: int) -> None:
        super().set_threads(count)
        self.net = open_net(self.path, count)  # NCNN prepares its layers for a number of threads

    def prepare(self, images: np.ndarray | torch.Tensor) -> list[np.ndarray]:
        return [to_planes(image) for image in np.asarray(images)]

    def execute(self, prepared: list[np.ndarray]) -> DetectorOutput:
        results = [extract(self.net, planes, OUTPUTS) for planes in prepared]
        maps = map(np.stack, zip(*results, strict=True))
        return split_maps(maps, self.info.anchor_num)


def open_net(param: Path, threads: int = 1) -> ncnn.Net:
    """Load a network whose files have been checked.

    Raises:
        InputError: NCNN cannot load them.
    """
    ncnn = require("ncnn", f"{param}: running NCNN models")
    net = ncnn.Net()
    net.opt.num_threads = threads
    if net.load_param(str(param)) or net.load_model(str(bin_path(param))):
        raise InputError(f"{param}: expected an NCNN model, but NCNN cannot load it")
    return net


def to_planes(image: np.ndarray) -> np.ndarray:
    """Convert an image [H, W, 3] uint8, BGR, to the network's input: [3, H, W] float32, 0…1."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    # OpenCV, one plane at a time, takes two thirds of the time of NCNN's own conversion.
    for values, plane in zip(cv2.split(image), planes, strict=True):
        np.multiply(values, np.float32(1 / 255), out=plane)
    return planes


def extract(net: ncnn.Net, planes: np.ndarray, names: Sequence[str], keep: bool = False) -> list[np.ndarray]:
    """Run a network and return blobs by name, each [channels, rows, columns].

    Args:
        planes: [3, H, W] float32 input.
        keep: keep all blobs; needed if `names` has blobs that are not outputs, which NCNN would free early.
    """
    import ncnn

    extractor = net.create_extractor()
    extractor.set_light_mode(not keep)
    extractor.input(INPUT, ncnn.Mat(planes))  # a view, valid because `planes` outlives the extraction
    # Copies, because the results are views of memory that the extractor owns.
    return [np.array(extractor.extract(name)[1]) for name in names]
