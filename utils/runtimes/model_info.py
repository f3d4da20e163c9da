"""The description of an exported model: everything needed to use it without its .data file.

An .onnx file has it in its metadata, each value as JSON. For NAME.ncnn.param, it is in the file NAME.json.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model import SCALES, SIZE_MULTIPLE, STRIDES
from utils.config import Config
from utils.errors import InputError
from utils.files import read_text
from utils.postprocess import MAX_DETECTIONS, Anchors

FORMAT = 1
PRECISIONS = ("FP32", "FP16", "INT8")
# How an image is converted to the network's input; the same for all exported models.
INPUT = {
    "channels": "BGR",
    "layout": "NCHW",
    "resize": "bilinear, without keeping the aspect",
    "scale": 1 / 255,
    "mean": [0, 0, 0],
}


@dataclass(frozen=True)
class ModelInfo:
    """Description of an exported model. Attributes that `Config` also has have the same meaning."""

    path: Path | None  # the file that it was read from, if any
    model_name: str
    class_names: tuple[str, ...]
    width: int
    height: int
    anchors: Anchors
    conf: float  # thresholds: defaults, or fixed if the model includes NMS
    iou: float
    max_det: int
    precision: str
    weights_sha256: str

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def anchor_num(self) -> int:
        return len(self.anchors[0])

    @classmethod
    def from_config(
        cls, config: Config, weights_sha256: str, conf: float, iou: float, precision: str = "FP32"
    ) -> ModelInfo:
        """Describe a model that is exported with the Config of a .data file."""
        return cls(
            path=None,
            model_name=config.model_name,
            class_names=config.class_names,
            width=config.width,
            height=config.height,
            anchors=config.anchors,
            conf=conf,
            iou=iou,
            max_det=MAX_DETECTIONS,
            precision=precision,
            weights_sha256=weights_sha256,
        )

    def to_dict(self, input_name: str, output_names: Sequence[str], **extra: object) -> dict[str, object]:
        """Return values that JSON can hold; `extra` are additional entries."""
        return {
            "format": FORMAT,
            "model_name": self.model_name,
            "names": list(self.class_names),
            "width": self.width,
            "height": self.height,
            "strides": list(STRIDES),
            "anchors": self.anchors,
            "conf": self.conf,
            "iou": self.iou,
            "max_det": self.max_det,
            "input": {"name": input_name, **INPUT},
            "outputs": list(output_names),
            "precision": self.precision,
            "weights_sha256": self.weights_sha256,
            **extra,
        }

    @classmethod
    def from_dict(cls, content: object, path: str | Path) -> ModelInfo:
        """Check and convert the content of a JSON file.

        Raises:
            InputError: an entry is missing or wrong. The message names `path` and the entry.
        """
        if not isinstance(content, dict):
            raise InputError(f"{path}: expected the description of a model, got a {type(content).__name__}")
        values = {key: content.get(key) for key in _CHECKS}
        for key, (expected, is_valid) in _CHECKS.items():
            try:
                valid = is_valid(values[key])
            except (TypeError, AttributeError, LookupError):
                valid = False
            if not valid:
                raise InputError(f"{path}: {key}: expected {expected}, got {reprlib.repr(values[key])}")
        del values["format"]
        values["class_names"] = tuple(values.pop("names"))
        values["anchors"] = tuple(tuple(tuple(map(float, pair)) for pair in scale) for scale in values["anchors"])
        return cls(path=Path(path), **values)

    @classmethod
    def from_json(cls, path: Path) -> ModelInfo:
        """Read a JSON file.

        Raises:
            InputError: the file is missing or not JSON, or `from_dict` rejects it.
        """
        try:
            return cls.from_dict(json.loads(read_text(path)), path)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{error.lineno}: expected JSON: {error.msg}") from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> ModelInfo:
        """Read the metadata of an .onnx file, in which each value is JSON.

        Raises:
            InputError: the metadata is missing or not JSON, or `from_dict` rejects it.
        """
        texts = {key: metadata[key] for key in _CHECKS if key in metadata}
        if not texts:
            raise InputError(f"{path}: expected the metadata that pytorch2onnx.py writes (names, anchors …), got none")
        try:
            return cls.from_dict({key: json.loads(text) for key, text in texts.items()}, path)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: expected metadata in JSON: {error}") from error

    def check_fits(self, config: Config | ModelInfo) -> None:
        """Check that a .data file has the classes, anchors and input size of this model.

        Class names may differ, for example if they are translated, but not their count.

        Raises:
            InputError: they differ.
        """
        for name in ("classes", "anchors", "width", "height"):
            own, other = getattr(self, name), getattr(config, name)
            if own != other:
                raise InputError(f"{self.path}: was exported with {name} {own}, {config.path} says {other}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _is_size(value: object) -> bool:
    return _is_count(value) and value % SIZE_MULTIPLE == 0


def _is_fraction(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _are_names(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _are_anchors(scales: list[list[list[float]]]) -> bool:
    return (
        len(scales) == SCALES
        and all(len(scale) == len(scales[0]) > 0 for scale in scales)
        and all(len(pair) == 2 and all(side > 0 for side in pair) for scale in scales for pair in scale)
    )


# Per entry: the expected value in words, and its check, which returns False or raises TypeError, AttributeError or
# LookupError for an invalid value.
_CHECKS = {
    "format": (str(FORMAT), lambda value: value == FORMAT),
    "model_name": ("a name", _is_text),
    "names": ("class names", _are_names),
    "width": (f"a multiple of {SIZE_MULTIPLE}", _is_size),
    "height": (f"a multiple of {SIZE_MULTIPLE}", _is_size),
    "anchors": (f"{SCALES} lists of (width, height) pairs, equally long", _are_anchors),
    "conf": ("a number from 0 to 1", _is_fraction),
    "iou": ("a number from 0 to 1", _is_fraction),
    "max_det": ("a whole number of 1 or more", _is_count),
    "precision": (" or ".join(PRECISIONS), PRECISIONS.__contains__),
    "weights_sha256": ("a SHA-256", _is_text),
}
