"""Running an exported .onnx file in ONNX Runtime."""

from pathlib import Path

import numpy as np
import torch

from utils.errors import InputError
from utils.optional import require
from utils.runtimes.base import Runtime, split_maps
from utils.runtimes.model_info import from_metadata

DETECTIONS = "detections"  # name of the output of a model that ends with detections


class OnnxRuntime(Runtime):
    """A model that pytorch2onnx.py has exported, on the CPU.

    Args:
        path: of the .onnx file.
        threads: how many it may use; None: all cores.
    Raises:
        InputError: the file cannot be read, or is not one of ours.
    """

    name = "ONNX Runtime"
    device = torch.device("cpu")

    def __init__(self, path, threads=None):
        ort = require("onnxruntime", f"{path}: running .onnx files")
        self.info, self.session = _open(ort, Path(path), threads)
        self.anchors, self.precision = self.info.anchors, self.info.precision
        entry = self.session.get_inputs()[0]
        self.input_name = entry.name
        # A fixed batch is one of 1: see pytorch2onnx.py.
        self.one_by_one = entry.shape[0] == 1
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.device_name = f"cpu ({threads} threads)" if threads else "cpu"

    @property
    def ends_with_detections(self):
        """Whether decoding and suppression are inside the model."""
        return self.outputs == [DETECTIONS]

    def prepare(self, images):
        pixels = np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2)).astype(np.float32)
        pixels *= np.float32(1 / 255)
        return pixels

    def execute(self, prepared):
        batches = np.split(prepared, len(prepared)) if self.one_by_one else [prepared]
        results = [self.session.run(self.outputs, {self.input_name: batch}) for batch in batches]
        if self.ends_with_detections:
            return [torch.from_numpy(found) for (found,) in results]
        maps = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*results, strict=True))
        return split_maps(maps, self.info.anchor_num)

    def select(self, output, conf, iou, max_det, classes):
        if not self.ends_with_detections:
            return super().select(output, conf, iou, max_det, classes)
        info = self.info
        if conf < info.conf or iou != info.iou or max_det > info.max_det:
            raise InputError(
                f"{info.path}: its thresholds are inside: conf {info.conf:g}, iou {info.iou:g}, max-det "
                f"{info.max_det}; got conf {conf:g}, iou {iou:g}, max-det {max_det}. Export it with other ones, or "
                "without --end2end"
            )
        kept = [found[found[:, 4] > conf] for found in output]
        if classes is not None:
            wanted = torch.as_tensor(classes)
            kept = [found[torch.isin(found[:, 5].long(), wanted)] for found in kept]
        return [found[:max_det] for found in kept]


def open_runtime(path, threads=None):
    """OnnxRuntime of a file, see there."""
    return OnnxRuntime(path, threads)


def read_info(path):
    """ModelInfo of an .onnx file.

    Raises:
        InputError: the file cannot be read, or is not one of ours.
    """
    return _open(require("onnxruntime", f"{path}: running .onnx files"), Path(path), threads=1)[0]


def _open(ort, path, threads):
    if not path.is_file():
        raise InputError(f"{path}: expected an .onnx file, found none there")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of many kinds, none of which has a common base
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected an ONNX model, got something else or a damaged one: {reason}") from error
    return from_metadata(session.get_modelmeta().custom_metadata_map, path), session
