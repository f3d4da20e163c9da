"""Run an exported .onnx file with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model import DetectorOutput
from utils.errors import InputError
from utils.optional import require
from utils.postprocess import Thresholds
from utils.runtimes.exported import ExportedRuntime, split_maps
from utils.runtimes.model_info import ModelInfo
from utils.text import first_line

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession

INPUT, OUTPUTS = "images", ("stride16", "stride32")
DETECTIONS = "detections"  # output of a model that includes NMS


class OnnxRuntime(ExportedRuntime):
    """A model exported by pytorch2onnx.py, on the CPU.

    Raises:
        InputError: the file cannot be read, or pytorch2onnx.py did not write it.
    """

    name = "ONNX Runtime"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.session = _open_session(self.path)
        metadata = self.session.get_modelmeta().custom_metadata_map
        super().__init__(ModelInfo.from_metadata(metadata, self.path))
        self.includes_nms = [output.name for output in self.session.get_outputs()] == [DETECTIONS]
        self._check_shapes()
        # The batch size is either 1 or dynamic.
        self.one_by_one = self.session.get_inputs()[0].shape[0] == 1

    def _check_shapes(self) -> None:
        """Check that the inputs and outputs are in float32 and have the shapes that the description implies."""
        info, session = self.info, self.session
        expected = {INPUT: (3, info.height, info.width)}
        expected |= {DETECTIONS: (6,)} if self.includes_nms else dict(zip(OUTPUTS, info.map_shapes, strict=True))
        values = [*session.get_inputs(), *session.get_outputs()]
        types = sorted({value.type for value in values})
        if types != ["tensor(float)"]:
            raise InputError(f"{info.path}: expected inputs and outputs in float32, got {', '.join(types)}")
        found = {value.name: tuple(value.shape) for value in values}
        if found.keys() != expected.keys() or not all(_ends_with(found[name], expected[name]) for name in expected):
            raise InputError(f"{info.path}: expected inputs and outputs of the shapes {expected}, got {found}")

    def set_threads(self, count: int) -> None:
        super().set_threads(count)
        self.session = create_session(str(self.path), count)

    def prepare(self, images: np.ndarray | torch.Tensor) -> np.ndarray:
        pixels = np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2)).astype(np.float32)
        pixels *= np.float32(1 / 255)
        return pixels

    def execute(self, prepared: np.ndarray) -> DetectorOutput | list[np.ndarray]:
        """Run the network. A model that includes NMS returns detections per image."""
        batches = np.split(prepared, len(prepared)) if self.one_by_one else [prepared]
        if self.includes_nms:
            return [self.session.run([DETECTIONS], {INPUT: batch})[0] for batch in batches]
        results = [self.session.run(list(OUTPUTS), {INPUT: batch}) for batch in batches]
        maps = map(np.concatenate, zip(*results, strict=True))
        return split_maps(maps, self.info.anchor_num)

    def select(self, output: DetectorOutput | list[np.ndarray], thresholds: Thresholds) -> list[np.ndarray]:
        if not self.includes_nms:
            return super().select(output, thresholds)
        fixed = self.info.thresholds
        if thresholds.conf < fixed.conf or thresholds.iou != fixed.iou or thresholds.max_det > fixed.max_det:
            raise InputError(
                f"{self.info.path}: expected conf {fixed.conf:g} or more, iou {fixed.iou:g}, max-det {fixed.max_det} "
                f"or less, because NMS is inside this model, got conf {thresholds.conf:g}, iou {thresholds.iou:g}, "
                f"max-det {thresholds.max_det}; export it with other thresholds or without --end2end"
            )
        kept = [rows[rows[:, 4] > thresholds.conf] for rows in output]
        if thresholds.classes is not None:
            kept = [rows[np.isin(rows[:, 5], thresholds.classes)] for rows in kept]
        return [rows[: thresholds.max_det] for rows in kept]


def _ends_with(shape: tuple[int | str | None, ...], sides: tuple[int, ...]) -> bool:
    """Return whether a shape ends with these sides; a side that is not fixed is a name or None and fits any."""
    last = shape[-len(sides) :]
    return len(last) == len(sides) and all(
        side == length or not isinstance(side, int) for side, length in zip(last, sides, strict=True)
    )


def create_session(model: str | bytes, threads: int = 1) -> InferenceSession:
    """Load a model into ONNX Runtime; `model` is the path or the content of an .onnx file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    # Waiting threads give up their core early, see `utils.machine.limit_spinning`. Older versions ignore this.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _open_session(path: Path) -> InferenceSession:
    require("onnxruntime", f"{path}: running .onnx files")
    try:
        return create_session(str(path))
    except Exception as error:  # ONNX Runtime raises several exceptions that have no common base class
        found = f"a damaged or different file: {first_line(error)}"
        raise InputError(f"{path}: expected an ONNX model, got {found}") from error
