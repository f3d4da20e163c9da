"""What an exported model says of itself, so that it can be used without the .data file that it came from.

An .onnx file carries it in its metadata, each entry as JSON; beside NAME.ncnn.param it is NAME.json.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from model import SCALES, SIZE_MULTIPLE, STRIDES
from utils.errors import InputError
from utils.files import read_text
from utils.postprocess import MAX_DETECTIONS

FORMAT = 1
PRECISIONS = ("FP32", "FP16", "INT8")
# How pixels become the network's input; the same for every model that is exported here.
INPUT = {
    "channels": "BGR",
    "layout": "NCHW",
    "resize": "bilinear, without keeping the aspect",
    "scale": 1 / 255,
    "mean": [0, 0, 0],
}


@dataclass(frozen=True)
class ModelInfo:
    """The names that Config and it share mean the same."""

    path: Path | None  # of the file that says it
    model_name: str
    class_names: tuple[str, ...]
    width: int
    height: int
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    conf: float  # defaults of who detects with it; inside the model when it ends with detections
    iou: float
    max_det: int
    precision: str
    weights_sha256: str

    @property
    def classes(self):
        return len(self.class_names)

    @property
    def anchor_num(self):
        return len(self.anchors[0])


def describe_model(config, weights_sha256, conf, iou, precision, max_det=MAX_DETECTIONS):
    """ModelInfo of a model that is exported with a .data file's Config."""
    return ModelInfo(
        path=None,
        model_name=config.model_name,
        class_names=config.class_names,
        width=config.width,
        height=config.height,
        anchors=config.anchors,
        conf=conf,
        iou=iou,
        max_det=max_det,
        precision=precision,
        weights_sha256=weights_sha256,
    )


def to_content(info, input_name, outputs, **more):
    """Plain values for JSON.

    Args:
        info: ModelInfo.
        input_name: of the model's input.
        outputs: names of the model's outputs.
        more: further entries.
    """
    return {
        "format": FORMAT,
        "model_name": info.model_name,
        "names": list(info.class_names),
        "width": info.width,
        "height": info.height,
        "strides": list(STRIDES),
        "anchors": info.anchors,
        "conf": info.conf,
        "iou": info.iou,
        "max_det": info.max_det,
        "input": {"name": input_name, **INPUT},
        "outputs": list(outputs),
        "precision": info.precision,
        "weights_sha256": info.weights_sha256,
        **more,
    }


def from_content(content, path):
    """ModelInfo from what `to_content` gives, checked.

    Args:
        content: whatever JSON held.
        path: of the file, for errors.
    Raises:
        InputError: naming the entry, what was read and what was expected.
    """
    path = Path(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected the description of a model, got a {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: format: expected {FORMAT}, which this version reads, got {content.get('format')!r}")
    values = {key: _check(content, key, path) for key in _CHECKS}
    values["class_names"] = tuple(values.pop("names"))
    values["anchors"] = tuple(tuple(tuple(map(float, pair)) for pair in scale) for scale in values["anchors"])
    return ModelInfo(path=path, **values)


def to_metadata(content):
    """Content as texts by name, which is what an .onnx file can carry."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in content.items()}


def from_metadata(metadata, path):
    """ModelInfo from an .onnx file's metadata.

    Raises:
        InputError: as `from_content`, or an entry is no JSON.
    """
    wanted = {key: text for key, text in metadata.items() if key in _CHECKS or key == "format"}
    if not wanted:
        raise InputError(f"{path}: expected the metadata that pytorch2onnx.py writes (names, anchors …), got none")
    try:
        content = {key: json.loads(text) for key, text in wanted.items()}
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: expected metadata in JSON: {error}") from error
    return from_content(content, path)


def read_json(path):
    """What a JSON file holds.

    Raises:
        InputError: the file is missing or no JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: expected JSON: {error.msg}") from error


def check_fits(info, config):
    """A model must be used with the classes, anchors and size that it was exported with.

    Args:
        info: ModelInfo.
        config: Config of the .data file that it is used with.
    Raises:
        InputError: they differ.
    """
    # Names may be others, translated ones say; their number may not.
    for name in ("classes", "anchors", "width", "height"):
        own, asked = getattr(info, name), getattr(config, name)
        if own != asked:
            raise InputError(f"{info.path}: was exported with {name} {own}, {config.path} says {asked}")


def _check(content, key, path):
    expected, valid = _CHECKS[key]
    value = content.get(key)
    try:
        accepted = valid(value)
    except (TypeError, ValueError, AttributeError):
        accepted = False
    if not accepted:
        shown = repr(value)
        raise InputError(f"{path}: {key}: expected {expected}, got {shown if len(shown) < 60 else shown[:60] + '…'}")
    return value


def _is_text(value):
    return isinstance(value, str) and bool(value.strip())


def _is_count(value):
    return type(value) is int and value > 0


def _is_number(value):
    return type(value) in (int, float)


def _are_names(value):
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _are_anchors(value):
    pairs = [pair for scale in value for pair in scale]
    return (
        len(value) == SCALES
        and len({len(scale) for scale in value}) == 1
        and bool(pairs)
        and all(len(pair) == 2 and all(_is_number(side) and side > 0 for side in pair) for pair in pairs)
    )


def _is_size(value):
    return _is_count(value) and value % SIZE_MULTIPLE == 0


def _is_fraction(value):
    return _is_number(value) and 0 <= value <= 1


_CHECKS = {
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
