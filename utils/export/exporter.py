"""Export weights: write each model to a temporary folder, compare it with PyTorch, copy it to the output folder."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from utils.config import DEFAULT_IOU, MAX_DETECTIONS, Config
from utils.errors import InputError
from utils.export.calibration import read_calibration
from utils.export.graph import ActivatedDetector, EndToEndDetector
from utils.export.int8_ncnn import quantize as quantize_ncnn
from utils.export.int8_tflite import quantize as quantize_tflite
from utils.export.ncnn_export import to_ncnn
from utils.export.onnx_export import add_description, to_half, to_onnx
from utils.export.rewrite import interleave_channels, slice_channels
from utils.export.tflite_export import to_tflite
from utils.export.verify import TEST_IMAGE, compare_with_pytorch, make_reference, make_sample
from utils.files import atomic_path, check_writable
from utils.optional import require
from utils.provenance import file_hash
from utils.runtimes.model_info import ModelInfo
from utils.runtimes.ncnn_format import PARAM_SUFFIX, Layer, as_float16, bin_path, write_model
from utils.runtimes.ncnn_runtime import INFO_SUFFIX, OUTPUTS
from utils.runtimes.ncnn_shapes import INPUT
from utils.runtimes.tflite_runtime import SUFFIX as TFLITE_SUFFIX
from utils.runtimes.tflite_runtime import add_description as add_tflite_description
from utils.runtimes.torch_runtime import TorchRuntime
from utils.weights.checkpoint import load_detector

if TYPE_CHECKING:
    import onnx

ONNX_SUFFIX = ".onnx"
MIN_OPSET, MAX_OPSET = 11, 20
MAX_PHOTOS = 5  # images of img/ in which detections are compared if no int8 model is exported


@dataclass(frozen=True)
class ExportOptions:
    """What to export.

    Raises:
        InputError: the options are wrong or cannot be combined.
    """

    weights: str  # .pth file
    output: str = "model.onnx"  # the .onnx file; other files are named after it
    opset: int = 11
    dynamic_batch: bool = False
    dynamic_size: bool = False
    end2end: bool = False  # include decoding and NMS in the .onnx file
    half: bool = False  # float16 in the .onnx file
    ncnn: str | None = None  # fp16 or fp32: also export to NCNN
    tflite: str | None = None  # fp32 or int8: also export to TFLite
    int8: bool = False  # also export int8 models of all exported formats
    calib: str | None = None  # calibration images; None: the train list
    calib_images: int = 64
    conf: float | None = None  # thresholds to store in the files; None: the score threshold of the weights
    iou: float = DEFAULT_IOU

    def __post_init__(self) -> None:
        if Path(self.output).suffix != ONNX_SUFFIX:
            raise InputError(f"--output {self.output}: expected a name that ends with {ONNX_SUFFIX}")
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            raise InputError(f"--opset: expected a version from {MIN_OPSET} to {MAX_OPSET}, got {self.opset}")
        if self.end2end and self.dynamic_batch:
            raise InputError("--end2end: expected no --dynamic-batch, because a model with NMS takes one image")

    @property
    def calibrates(self) -> bool:
        """Whether an int8 model is exported, which needs images."""
        return self.int8 or self.tflite == "int8"


@dataclass(frozen=True)
class ExportedModel:
    """The files of a model; the first one is the path for loading it."""

    files: list[Path]
    precision: str
    notes: list[str]  # results of the checks, for the user

    def __str__(self) -> str:
        sizes = ", ".join(f"{path} ({path.stat().st_size:,} bytes)" for path in self.files)
        return "\n  ".join([f"wrote {self.precision} {sizes}", *self.notes])


def export(config: Config | None, options: ExportOptions) -> Iterator[ExportedModel]:
    """Export weights, and yield each model after it is checked and written.

    Args:
        config: the .data file; None if the weights have a description.

    Raises:
        InputError: the weights or the calibration images cannot be used, or the folder cannot be written to.
        RunError: a package is missing, a download failed, or a float32 model differs from PyTorch.
    """
    # Check now, because some packages are used only after a long conversion. `to_tflite` checks those of TFLite.
    for package in ("onnx", "onnxslim", "onnxruntime", *(("pnnx", "ncnn") if options.ncnn else ())):
        require(package, "exporting")
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        exporter = _Exporter(config, options, Path(folder))
        for exported in exporter.models():
            yield exporter.publish(exported)


class _Exporter:
    """Creates and checks the models of one weights file in a temporary folder."""

    def __init__(self, config: Config | None, options: ExportOptions, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.output = Path(options.output)
        check_writable(self.output)
        self.detector, model = load_detector(options.weights, config)
        self.info = ModelInfo.from_config(
            model,
            conf=model.conf if options.conf is None else options.conf,
            iou=options.iou,
            max_det=MAX_DETECTIONS,
            precision="FP32",
            weights_sha256=file_hash(options.weights),
        )
        self.size = model.size
        # The images in which detections are compared, also for the calibration of int8; each [H, W, 3] uint8, BGR.
        if options.calibrates:
            source = options.calib or (config and config.train)
            self.images = read_calibration(source, options.calib_images, self.size)
        else:
            source = "img/"
            self.images = read_calibration(TEST_IMAGE.parent, MAX_PHOTOS, self.size)
        runtime = TorchRuntime(copy.deepcopy(self.detector), self.info, torch.device("cpu"))
        self.sample = make_sample(runtime, self.images, str(source), self.info)
        self.reference = make_reference(self.detector, self.info)
        self.sliced = slice_channels(self.detector)

    def models(self) -> Iterator[ExportedModel]:
        """Create and check each model that the options name."""
        options = self.options
        # TFLite is converted first, because its packages are often missing and its conversion takes longest.
        tflite_model = to_tflite(self.sliced, self.size) if options.tflite else None
        yield self._onnx()
        if options.ncnn:
            layers = to_ncnn(interleave_channels(self.detector), self.size)
            yield self._ncnn(layers)
        if options.int8:
            yield self._onnx_int8()
            if options.ncnn:
                yield self._ncnn_int8(layers)
        if options.tflite == "fp32":
            yield self._write_tflite(tflite_model, "FP32")
        if options.tflite and options.calibrates:
            yield self._write_tflite(quantize_tflite(tflite_model, self.images), "INT8")

    def publish(self, exported: ExportedModel) -> ExportedModel:
        """Copy the files of a model to the output folder, each one atomically."""
        targets = [self.output.parent / source.name for source in exported.files]
        for source, target in zip(exported.files, targets, strict=True):
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        return replace(exported, files=targets)

    def _onnx(self) -> ExportedModel:
        """Export to ONNX in float32 or float16."""
        end2end = self.options.end2end
        module = EndToEndDetector(self.sliced, self.info) if end2end else ActivatedDetector(self.sliced)
        model = self._trace(module, self.options.opset)
        exported = self._write_onnx(model, "FP32")
        if self.options.half:
            exported = self._write_onnx(to_half(model), "FP16", [f"in float32: {note}" for note in exported.notes])
        return exported

    def _onnx_int8(self) -> ExportedModel:
        """Export to ONNX in int8, without NMS."""
        # Imported here because it needs the optional package onnx.
        from utils.export.int8_onnx import INT8_MIN_OPSET, quantize

        model = self._trace(ActivatedDetector(self.sliced), max(self.options.opset, INT8_MIN_OPSET))
        return self._write_onnx(quantize(model, self.images), "INT8")

    def _ncnn(self, layers: list[Layer]) -> ExportedModel:
        """Export to NCNN in float32 or float16."""
        counts = Counter(layer.type for layer in layers).most_common()
        notes = ["layers: " + ", ".join(f"{count} {layer_type}" for layer_type, count in counts)]
        exported = self._write_ncnn(layers, "FP32", notes)
        if self.options.ncnn == "fp16":
            exported = self._write_ncnn(as_float16(layers), "FP16", notes)
        return exported

    def _ncnn_int8(self, layers: list[Layer]) -> ExportedModel:
        """Export to NCNN in int8."""
        quantized, kept = quantize_ncnn(layers, self.info.anchors, self.images)
        kept = ["the first and all depthwise convolutions", *(f"{name} ({value:.1%})" for name, value in kept.items())]
        return self._write_ncnn(quantized, "INT8", [f"in floating point: {', '.join(kept)}"])

    def _trace(self, module: ActivatedDetector | EndToEndDetector, opset: int) -> onnx.ModelProto:
        return to_onnx(module, self.size, opset, self.options.dynamic_batch, self.options.dynamic_size)

    def _write_onnx(self, model: onnx.ModelProto, precision: str, notes: Sequence[str] = ()) -> ExportedModel:
        add_description(model, replace(self.info, precision=precision))
        path = self._path(precision, ONNX_SUFFIX)
        path.write_bytes(model.SerializeToString())
        return self._compared([path], precision, notes)

    def _write_ncnn(self, layers: list[Layer], precision: str, notes: Sequence[str]) -> ExportedModel:
        param, info = (self._path(precision, suffix) for suffix in (PARAM_SUFFIX, INFO_SUFFIX))
        weights = bin_path(param)
        write_model(param, layers)
        content = replace(self.info, precision=precision).to_dict(INPUT, OUTPUTS, param=param.name, bin=weights.name)
        info.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return self._compared([param, weights, info], precision, notes)

    def _write_tflite(self, model: bytes, precision: str) -> ExportedModel:
        path = self._path(precision, TFLITE_SUFFIX)
        path.write_bytes(add_tflite_description(model, replace(self.info, precision=precision)))
        return self._compared([path], precision, [])

    def _path(self, precision: str, suffix: str) -> Path:
        """Return a path in the temporary folder: NAME.suffix, or NAME-int8.suffix."""
        return self.folder / f"{self.output.stem}{'-int8' if precision == 'INT8' else ''}{suffix}"

    def _compared(self, files: list[Path], precision: str, notes: Sequence[str]) -> ExportedModel:
        results = compare_with_pytorch(files[0], precision, self.reference, self.sample, self.info)
        return ExportedModel(files, precision, [*results, *notes])
