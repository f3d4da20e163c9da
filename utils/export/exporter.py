"""From a checkpoint to the files that are asked for: each is made in a temporary folder, checked, then put in place."""

import copy
import functools
import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from utils.errors import InputError
from utils.export.calibration import read_calibration
from utils.export.graph import ActivatedDetector, EndToEndDetector
from utils.export.ncnn_graph import for_ncnn
from utils.export.verify import (
    PICTURE,
    check_exact,
    check_rounded,
    detections_difference,
    largest_difference,
    reference,
)
from utils.files import atomic_path, check_writable, write_text
from utils.runtimes.model_info import describe_model, to_content
from utils.runtimes.ncnn_format import as_float16, write_bin, write_param
from utils.runtimes.ncnn_runtime import BIN_SUFFIX, INFO_SUFFIX, INPUT, OUTPUTS, PARAM_SUFFIX, NcnnRuntime
from utils.runtimes.onnx_runtime import OnnxRuntime
from utils.weights.checkpoint import load_detector, weights_hash
from utils.weights.download import obtain

ONNX_SUFFIX = ".onnx"


@dataclass
class Made:
    """An exported model: files in a temporary folder until `Exporter.place` puts them where they belong."""

    path: Path  # by which it is used: NAME.onnx or NAME.ncnn.param
    precision: str
    difference: float | None = None  # largest one of a probability from PyTorch's on a real picture
    notes: list[str] = field(default_factory=list)  # what is to be said of it


class Exporter:
    """Makes exported models of one checkpoint.

    Args:
        config: Config.
        weights: path of a .pth file.
        output: path of the .onnx file; other files are named after it.
        conf, iou: thresholds that the files carry.
        folder: temporary folder.
    Raises:
        InputError: the weights do not fit, or nothing can be written there. RunError: they cannot be downloaded.
    """

    def __init__(self, config, weights, output, conf, iou, folder):
        self.output, self.folder = Path(output), Path(folder)
        if self.output.suffix != ONNX_SUFFIX:
            raise InputError(f"--output {output}: expected a name that ends with {ONNX_SUFFIX}")
        check_writable(self.output)
        self.config = config
        self.detector = load_detector(obtain(weights), config)
        self.info = describe_model(config, weights_hash(weights), conf, iou, "FP32")
        self.expected = reference(ActivatedDetector(self.detector), self.info)

    def onnx(self, opset, dynamic_batch, dynamic_size, half):
        """The .onnx file with an output a scale."""
        from utils.export.onnx_export import to_half, to_onnx

        model = to_onnx(ActivatedDetector(self.detector), self.info, opset, dynamic_batch, dynamic_size)
        made = self._compared(self._write_onnx(model, "FP32", self.output.name))
        check_exact(made.path, made.difference)
        if half:
            model = to_half(model, self._info("FP16"))
            made = self._compared(self._write_onnx(model, "FP16", self.output.name))
            check_rounded(made.path, made.difference)
        return made

    def onnx_end_to_end(self, opset, dynamic_size, half):
        """The .onnx file that ends with detections."""
        from utils.export.onnx_export import to_half, to_onnx

        info = self.info
        module = EndToEndDetector(self.detector, info.anchors, (info.width, info.height), info.conf, info.iou)
        model = to_onnx(module, info, opset, dynamic_size=dynamic_size)
        made = self._write_onnx(model, "FP32", self.output.name)
        found = self._detections(made)
        made.difference = detections_difference(found, self.expected, info)
        check_exact(made.path, made.difference)
        if half:
            # Rounding moves scores across the threshold, so that there may be other detections.
            made = self._write_onnx(to_half(model, self._info("FP16")), "FP16", self.output.name)
            made.notes.append(f"{len(self._detections(made))} objects in img/{PICTURE.name}, {len(found)} in float32")
        else:
            made.notes += [_difference_note(made), f"{len(found)} objects found there"]
        return made

    def onnx_int8(self, opset, dynamic_batch, dynamic_size, images):
        """An 8-bit .onnx file with an output a scale."""
        from utils.export.int8_onnx import LEAST_OPSET, quantise
        from utils.export.onnx_export import to_onnx

        model = to_onnx(
            ActivatedDetector(self.detector), self.info, max(opset, LEAST_OPSET), dynamic_batch, dynamic_size
        )
        quantised, kept = quantise(model, self._info("INT8"), images)
        made = self._compared(self._write_onnx(quantised, "INT8", f"{self.output.stem}-int8{ONNX_SUFFIX}"))
        made.notes.append(_kept_note(kept))
        return made

    def ncnn(self, half):
        """The NCNN pair in float16 or float32 storage."""
        from utils.export.ncnn_export import operators

        layers = self._ncnn_layers
        made = self._compared(self._write_ncnn(layers, "FP32", self.output.stem))
        check_exact(made.path, made.difference)
        if half:
            made = self._compared(self._write_ncnn(as_float16(layers), "FP16", self.output.stem))
            check_rounded(made.path, made.difference)
        made.notes.append(f"layers: {operators(layers)}")
        return made

    def ncnn_int8(self, images):
        """The NCNN pair with 8-bit weights."""
        from utils.export.int8_ncnn import quantise

        layers, kept = quantise(self._ncnn_layers, self.info, images)
        made = self._compared(self._write_ncnn(layers, "INT8", f"{self.output.stem}-int8"))
        made.notes.append(_kept_note(kept))
        return made

    def place(self, made):
        """Put the files of what was made where they belong, each whole or not at all; their paths."""
        targets = []
        for source in self.files(made):
            target = self.output.parent / source.name
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
            targets.append(target)
        return targets

    def files(self, made):
        """The files of what was made, in the temporary folder."""
        if made.path.suffix == ONNX_SUFFIX:
            return [self.folder / made.path]
        stem = made.path.name.removesuffix(PARAM_SUFFIX)
        return [self.folder / (stem + suffix) for suffix in (PARAM_SUFFIX, BIN_SUFFIX, INFO_SUFFIX)]

    def calibration(self, path, count):
        """The images to calibrate with: of a list, else of the .data file's train list."""
        path = path or self.config.train
        if path is None:
            raise InputError(
                "--int8: expected --calib LIST, a list of images to calibrate with; there is no train list"
            )
        return read_calibration(path, count, (self.info.width, self.info.height))

    def _info(self, precision):
        return replace(self.info, precision=precision)

    @functools.cached_property
    def _ncnn_layers(self):
        from utils.export.ncnn_export import to_ncnn

        return to_ncnn(ActivatedDetector(for_ncnn(copy.deepcopy(self.detector))), self.info)

    def _write_onnx(self, model, precision, name):
        (self.folder / name).write_bytes(model.SerializeToString())
        return Made(Path(name), precision)

    def _write_ncnn(self, layers, precision, stem):
        param, weights = f"{stem}{PARAM_SUFFIX}", f"{stem}{BIN_SUFFIX}"
        write_param(self.folder / param, layers)
        write_bin(self.folder / weights, layers)
        content = to_content(self._info(precision), INPUT, OUTPUTS, param=param, bin=weights)
        write_text(self.folder / f"{stem}{INFO_SUFFIX}", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return Made(Path(param), precision)

    def _detections(self, made):
        """What a model that ends with detections finds in the picture."""
        runtime = OnnxRuntime(self.folder / made.path)
        return runtime.predict(self.expected.image[None], self.info.conf, self.info.iou)[0]

    def _compared(self, made):
        """`made`, with its difference from PyTorch."""
        runtime = (OnnxRuntime if made.path.suffix == ONNX_SUFFIX else NcnnRuntime)(self.folder / made.path)
        made.difference = largest_difference(runtime, self.expected)
        made.notes.append(_difference_note(made))
        return made


def _difference_note(made):
    return f"largest difference from PyTorch on img/{PICTURE.name}: {made.difference:.2g}"


def _kept_note(kept):
    if not kept:
        return "all convolutions in int8"
    return "in floating point: " + ", ".join(f"{name} ({value:.1%})" for name, value in kept.items())
