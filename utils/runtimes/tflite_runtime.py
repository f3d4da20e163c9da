"""Run an exported .tflite file with LiteRT.

The description is a JSON file in a zip archive that follows the network, as in TFLite's own metadata. Interpreters
ignore what follows the network; `unzip` extracts the description.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model import DetectorOutput
from utils.errors import InputError
from utils.files import parse_json, read_bytes
from utils.optional import require
from utils.runtimes.exported import ExportedRuntime, split_maps
from utils.runtimes.model_info import ModelInfo
from utils.text import first_line

if TYPE_CHECKING:
    import torch
    from ai_edge_litert.interpreter import Interpreter

SUFFIX = ".tflite"
INPUT, OUTPUTS = "args_0", ("output_0", "output_1")  # names in the signature
DESCRIPTION = "model.json"
MAX_DESCRIPTION = 1 << 24  # bytes
INT8_OFFSET = 128  # an int8 input is the pixel minus this


class TfliteRuntime(ExportedRuntime):
    """A model exported by pytorch2onnx.py, on the CPU.

    Raises:
        InputError: the file cannot be read, or pytorch2onnx.py did not write it.
    """

    name = "LiteRT"

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.network, info = read_model(self.path)
        super().__init__(info)
        self.threads = 1
        self.local = threading.local()  # an interpreter runs one image at a time
        self.dtype = np.int8 if self.info.precision == "INT8" else np.float32
        with no_output():  # the first interpreter of a process reports its delegate
            interpreter = self._interpreter()
        _check_shapes(interpreter, self.info, self.dtype)

    def set_threads(self, count: int) -> None:
        super().set_threads(count)
        self.threads, self.local = count, threading.local()

    def prepare(self, images: np.ndarray | torch.Tensor) -> np.ndarray:
        images = np.asarray(images)
        if self.dtype == np.int8:
            return (images ^ INT8_OFFSET).view(np.int8)  # the bits of the pixel minus 128
        return images.astype(np.float32) * np.float32(1 / 255)

    def execute(self, prepared: np.ndarray) -> DetectorOutput:
        interpreter = self._interpreter()
        (entry,), outputs = interpreter.get_input_details(), _outputs(interpreter)
        maps = [[] for _ in outputs]
        for image in prepared:
            interpreter.set_tensor(entry["index"], image[None])
            self._invoke(interpreter)
            for output, results in zip(outputs, maps, strict=True):
                values = interpreter.get_tensor(output["index"])
                if self.dtype == np.int8:
                    scale, zero = output["quantization"]
                    values = (values.astype(np.float32) - zero) * np.float32(scale)
                results.append(values)
        return split_maps(map(np.concatenate, maps), self.info.anchor_num)

    def _invoke(self, interpreter: Interpreter) -> None:
        """Run the network; some damaged files can be loaded but not run."""
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise InputError(
                f"{self.path}: expected a TFLite model, but LiteRT cannot run it: {first_line(error)}"
            ) from error

    def _interpreter(self) -> Interpreter:
        """Return the interpreter of this thread."""
        if not hasattr(self.local, "interpreter"):
            self.local.interpreter = open_interpreter(self.network, self.path, self.threads)
        return self.local.interpreter


def open_interpreter(model: bytes, path: Path, threads: int = 1, **options: bool) -> Interpreter:
    """Load a network into LiteRT.

    Raises:
        InputError: LiteRT cannot load it; the message names `path`.
        RunError: the package is missing.
    """
    package = require("ai_edge_litert.interpreter", f"{path}: running .tflite files")
    try:
        interpreter = package.Interpreter(model_content=model, num_threads=threads, **options)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        found = f"a damaged or different file: {first_line(error)}"
        raise InputError(f"{path}: expected a TFLite model, got {found}") from error
    return interpreter


@contextlib.contextmanager
def no_output() -> Iterator[None]:
    """Hide the output of a library that cannot be told to be quiet.

    It hides everything that is written to the file descriptors of stdout and stderr, in all threads.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nothing, descriptor)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor, copied in zip((1, 2), saved, strict=True):
            os.dup2(copied, descriptor)
            os.close(copied)
        os.close(nothing)


def add_description(model: bytes, info: ModelInfo) -> bytes:
    """Append the description to a network."""
    # The preprocessing is that of the other formats, except for the layout; `prepare` knows the int8 input.
    content = info.to_dict(INPUT, OUTPUTS)
    content["input"]["layout"] = "NHWC"
    buffer = io.BytesIO(model)
    with zipfile.ZipFile(buffer, "a") as archive:
        # A fixed time, so that the same weights give the same file.
        entry = zipfile.ZipInfo(DESCRIPTION)
        archive.writestr(entry, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return buffer.getvalue()


def read_model(path: Path) -> tuple[bytes, ModelInfo]:
    """Read a .tflite file: the network, and its description.

    Raises:
        InputError: the file cannot be read, or has no valid description.
    """
    content = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(DESCRIPTION) as file:
            network = content[: archive.getinfo(DESCRIPTION).header_offset]
            text = file.read(MAX_DESCRIPTION + 1).decode()
    except Exception as error:  # zipfile and the decompressors raise many kinds
        expected = "the description that pytorch2onnx.py writes (names, anchors …)"
        raise InputError(f"{path}: expected {expected} at its end, got none") from error
    if len(text) > MAX_DESCRIPTION:
        raise InputError(f"{path}: expected a description of at most {MAX_DESCRIPTION:,} characters")
    return network, ModelInfo.from_dict(parse_json(text, path), path)


def _outputs(interpreter: Interpreter) -> list[dict]:
    """Return the details of the outputs, the one with the most cells (stride 16) first."""
    return sorted(interpreter.get_output_details(), key=lambda output: -int(np.prod(output["shape"])))


def _check_shapes(interpreter: Interpreter, info: ModelInfo, dtype: type) -> None:
    """Check that inputs and outputs are those that the description implies."""
    expected = [(1, info.height, info.width, 3), *((1, *shape) for shape in info.map_shapes)]
    details = [*interpreter.get_input_details(), *_outputs(interpreter)]
    found = [tuple(map(int, entry["shape"])) for entry in details]
    if found != expected or any(entry["dtype"] != dtype for entry in details):
        kinds = sorted({np.dtype(entry["dtype"]).name for entry in details})
        raise InputError(
            f"{info.path}: expected {np.dtype(dtype).name} inputs and outputs of the shapes {expected}, "
            f"got {', '.join(kinds)} and {found}"
        )
