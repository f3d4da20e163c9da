"""The description of an exported model: everything needed to use it without its .data file.

An .onnx file has it in its metadata, each value as JSON. A .tflite file has it in a zip archive at its end. For
NAME.ncnn.param, it is in the file NAME.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from model import STRIDES
from utils.config import MAX_COUNT, Config
from utils.errors import InputError
from utils.files import parse_json, read_text
from utils.postprocess import Thresholds
from utils.weights.model_description import ModelDescription, is_count, is_fraction

if TYPE_CHECKING:
    from typing import Self

PRECISIONS = ("FP32", "FP16", "INT8")
# How an image is converted to the network's input, for ONNX and NCNN; TFLite uses NHWC.
PREPROCESSING = {
    "channels": "BGR",
    "layout": "NCHW",
    "resize": "bilinear, without keeping the aspect",
    "scale": 1 / 255,
    "mean": [0, 0, 0],
}


@dataclass(frozen=True)
class ModelInfo(ModelDescription):
    """Description of an exported model."""

    # Thresholds, like `conf`: defaults, or fixed values if the model includes NMS.
    iou: float
    max_det: int
    precision: str
    weights_sha256: str

    CHECKS = ModelDescription.CHECKS | {
        "iou": ("a number from 0 to 1", is_fraction),
        "max_det": (f"a whole number from 1 to {MAX_COUNT:,}", is_count),
        "precision": (" or ".join(PRECISIONS), PRECISIONS.__contains__),
        "weights_sha256": ("a SHA-256", lambda value: isinstance(value, str) and 0 < len(value.strip()) <= 64),
    }

    OPTIONAL: ClassVar[Mapping[str, object]] = {}

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(self.conf, self.iou, self.max_det)

    @property
    def map_shapes(self) -> list[tuple[int, int, int]]:
        """Rows, columns and values per cell of the output of each scale."""
        values = 5 * self.anchor_num + self.classes
        return [(self.height // stride, self.width // stride, values) for stride in STRIDES]

    def to_dict(self, input_name: str, output_names: Sequence[str], **extra: object) -> dict[str, object]:
        """Return values that JSON can hold; `extra` are additional entries."""
        return {
            **super().to_dict(),
            "iou": self.iou,
            "max_det": self.max_det,
            "input": {"name": input_name, **PREPROCESSING},
            "outputs": list(output_names),
            "precision": self.precision,
            "weights_sha256": self.weights_sha256,
            **extra,
        }

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read a JSON file.

        Raises:
            InputError: the file is missing or not JSON, or `from_dict` rejects it.
        """
        return cls.from_dict(parse_json(read_text(path), path), path)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> Self:
        """Read the metadata of an .onnx file, in which each value is JSON.

        Raises:
            InputError: the metadata is missing or not JSON, or `from_dict` rejects it.
        """
        texts = {key: metadata[key] for key in cls.CHECKS if key in metadata}
        if not texts:
            raise InputError(f"{path}: expected the metadata that pytorch2onnx.py writes (names, anchors …), got none")
        return cls.from_dict({key: parse_json(text, f"{path}: {key}") for key, text in texts.items()}, path)

    def differences(self, config: Config | ModelDescription) -> list[str]:
        """Also compare the input size, which is fixed in an exported model."""
        return super().differences(config) + [
            f"{name} {getattr(self, name)}, {config.path} has {getattr(config, name)}"
            for name in ("width", "height")
            if getattr(self, name) != getattr(config, name)
        ]
