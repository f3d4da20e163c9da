"""Read and write weights and training checkpoints.

A weights file is a state dict (the released files, `NAME-EPOCH-epoch-APap-model.pth`) or a training checkpoint: a dict
with the model's state dict under "model" and the EMA's, if there is one, under "ema".

The state dicts that training writes have an attribute `description`: a dict of plain values with the model's classes,
anchors and input size (`ModelDescription.to_dict`), and under "training" how the weights were made. It is an attribute
and not an entry, so that `load_state_dict` of every version accepts the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from model.detector import Detector
from utils.config import Config
from utils.errors import InputError, RunError
from utils.files import atomic_path, read_bytes
from utils.text import list_names
from utils.weights.download import obtain
from utils.weights.model_description import ModelDescription

if TYPE_CHECKING:
    from utils.training.state import TrainingState

BACKBONE_PREFIX = "backbone."
_MAX_CODE = 2**20  # bytes of compressed entries, such as the code of a scripted model
_COUPLED_HEAD = "fpn.head_2."
_TRAINING_KEYS = ("model", "ema", "optimiser", "scaler", "name", "folder", "options", "progress")
# DistributedDataParallel and torch.compile add these prefixes to tensor names.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")

State = Mapping[str, torch.Tensor]


class Weights(NamedTuple):
    """Content of a weights file, on the CPU."""

    tensors: dict[str, torch.Tensor]  # by their names in `Detector`
    description: ModelDescription | None  # None for files that train.py has not written


def read_weights(path: str | Path) -> Weights:
    """Read a weights file. From a training checkpoint, the EMA weights are returned if it has them.

    Raises:
        InputError: the file is missing, damaged, not a PyTorch file, or contains anything except named tensors.
    """
    content = _load(Path(path))
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content.get("ema") or content["model"]
    expected = f"{path}: expected a dict of tensors by name"
    if not isinstance(content, Mapping):
        raise InputError(f"{expected}, got a {type(content).__name__}")
    for name, tensor in content.items():
        if not (isinstance(name, str) and isinstance(tensor, torch.Tensor) and _is_plain(tensor)):
            raise InputError(f"{expected}, got {name!r}: a {type(tensor).__name__}")
    if not content:
        raise InputError(f"{expected}, got an empty one")
    description = getattr(content, "description", None)
    return Weights(
        tensors={_WRAPPERS.sub("", name): tensor for name, tensor in content.items()},
        description=None if description is None else ModelDescription.from_dict(description, path),
    )


def load_weights(detector: nn.Module, path: str | Path, asked_by: str | Path = "the model") -> None:
    """Load all weights of a detector from a weights file, which must contain exactly the detector's tensors.

    Args:
        asked_by: source of the class and anchor counts, usually the .data file, for error messages.

    Raises:
        InputError: as `read_weights`, or the tensors are not exactly the detector's, or not finite.
    """
    _load_exactly(detector, read_weights(path).tensors, path, asked_by)


def load_matching(detector: nn.Module, path: str | Path) -> list[str]:
    """Load the tensors of a weights file that fit the detector; the detector's other tensors keep their values.

    The file may contain only a backbone, or a detector with other classes, other anchors or the older layout.

    Returns:
        Names of the tensors that were skipped, because the detector has no such tensor or one of another shape.

    Raises:
        InputError: as `read_weights`, or no tensor fits, or one that fits is not finite.
    """
    state, expected = read_weights(path).tensors, detector.state_dict()
    if _is_bare_backbone(state, expected):
        state = {BACKBONE_PREFIX + name: tensor for name, tensor in state.items()}
    skipped = [name for name in state if name not in expected or state[name].shape != expected[name].shape]
    if len(skipped) == len(state):
        raise InputError(f"{path}: none of its {len(state)} tensors fits the detector: {list_names(skipped)}")
    fitting = {name: tensor for name, tensor in state.items() if name not in skipped}
    _check_finite(fitting, path)
    detector.load_state_dict(fitting, strict=False)
    return skipped


def load_detector(path: str | Path, config: Config | None) -> tuple[Detector, Config | ModelDescription]:
    """Build a detector with weights from `path`, in evaluation mode, on the CPU.

    If the file is missing and the manifest of the model zoo lists it, it is downloaded first.

    Args:
        config: the .data file; None if the weights have a description.

    Returns:
        The detector, and its description: `config`, but with the anchors that the weights were made for, if known.

    Raises:
        InputError: as `load_weights`, or the description of the weights does not fit `config`, or there is neither.
        RunError: as `obtain`.
    """
    tensors, description = read_weights(obtain(path))
    model = config or description
    if model is None:
        raise InputError(f"--data: expected the .data file of {path}, got none; these weights have no description")
    if config and description:
        description.check_fits(config)
        same = {name: getattr(config, name) for name in ("path", "class_names", "width", "height")}
        model = dataclasses.replace(description, **same)
    detector = Detector(model.classes, model.anchor_num)
    _load_exactly(detector, tensors, path, asked_by=model.path)
    return detector.eval(), model


def save_weights(path: str | Path, network: nn.Module, description: Mapping[str, Any]) -> None:
    """Write a network's weights as a state dict that all scripts and the original project can load.

    Args:
        description: plain values, see the top of this file.

    Raises:
        RunError: the file cannot be written, for example because the disk is full; the previous file is intact.
    """
    _save(path, _copy_state(network, description))


def save_training(
    path: str | Path, training: TrainingState, state: Mapping[str, Any], description: Mapping[str, Any]
) -> None:
    """Write a checkpoint: model, EMA, optimizer and scaler of a training run, and `state`, a dict of plain values.

    Args:
        description: as for `save_weights`.

    Raises:
        RunError: as `save_weights`.
    """
    content = {
        "model": _copy_state(training.model, description),
        "ema": None if training.ema is None else _copy_state(training.ema, description),
        "optimiser": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        **state,
    }
    _save(path, content)


def read_training(path: str | Path) -> dict[str, Any]:
    """Read the content of a checkpoint written by `save_training`, and add `path` under "path".

    Raises:
        InputError: the file is missing, damaged, or contains only weights.
    """
    content = _load(Path(path))
    if not isinstance(content, Mapping) or not all(key in content for key in _TRAINING_KEYS):
        raise InputError(f"{path}: expected a training checkpoint (NAME-last.pth) to resume from, got weights only")
    return {**content, "path": str(path)}


def restore_training(training: TrainingState, saved: Mapping[str, Any], asked_by: str | Path) -> None:
    """Restore model, EMA, optimizer and scaler from a checkpoint.

    An EMA starts from the model's weights if the checkpoint has none.

    Args:
        training: not yet wrapped for several processes.
        saved: from `read_training`.
        asked_by: as for `load_weights`.

    Raises:
        InputError: the checkpoint's tensors or optimizer state do not fit.
    """
    path = saved["path"]
    _load_exactly(training.model, saved["model"], path, asked_by)
    if training.ema is not None:
        _load_exactly(training.ema, saved["ema"] or saved["model"], path, asked_by)
    try:
        training.load_optimizer(saved["optimiser"])
        if saved["scaler"] and training.scaler.is_enabled():
            training.scaler.load_state_dict(saved["scaler"])
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path}: its optimizer state does not fit the recipe: {error}") from error


def _copy_state(network: nn.Module, description: Mapping[str, Any]) -> OrderedDict[str, torch.Tensor]:
    """Copy a network's tensors to the CPU, in contiguous memory format, and attach the description."""
    state = OrderedDict(
        (name, tensor.detach().cpu().clone(memory_format=torch.contiguous_format))
        for name, tensor in network.state_dict().items()
    )
    state.description = dict(description)
    return state


def _save(path: str | Path, content: Mapping[str, Any]) -> None:
    # In memory first: if the disk is full, the error of torch.save(content, path) does not name the cause.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{path}: cannot write this file, the previous one is intact: {reason}") from error


def _load(path: Path) -> object:
    """Read a file written by torch.save, without running code that it may contain."""
    content = read_bytes(path)
    if not content:
        raise InputError(f"{path}: expected a weights file, got an empty file")
    _check_archive(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and TorchScript; the errors below are clearer
            # The released files were saved from a GPU.
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler can raise any exception on bytes that are not a checkpoint
        if re.search(r"nsupported (global|class)|TorchScript", str(error), re.IGNORECASE):
            raise InputError(
                f"{path}: expected tensors only, as written by torch.save(model.state_dict(), …), got Python objects "
                "(a whole pickled or scripted model?), which could run code when loaded"
            ) from error
        raise InputError(f"{path}: expected a PyTorch weights file, got a damaged file or another format") from error


def _check_archive(path: Path, content: bytes) -> None:
    """Check that the tensors of a file take little more memory than the file; torch.save does not compress them."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > 2 * len(content) + _MAX_CODE:
            raise InputError(f"{path}: expected a PyTorch weights file, got {size:,} bytes in one of {len(content):,}")


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is dense, in memory, and of real numbers that are not quantized."""
    return tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_complex() or tensor.is_meta)


def _check_finite(tensors: State, path: str | Path) -> None:
    """Check that no value is NaN or infinite."""
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"{path}: {len(broken)} of {len(tensors)} tensors have values that are not finite: {list_names(broken)}; "
            "a training with too high a learning rate can make such weights"
        )


def _is_bare_backbone(state: State, expected: State) -> bool:
    """Return whether the names are those of a backbone without its prefix."""
    return not any(name in expected for name in state) and any(BACKBONE_PREFIX + name in expected for name in state)


def _load_exactly(network: nn.Module, state: State, path: str | Path, asked_by: str | Path) -> None:
    """Load a state dict, or raise an InputError with the most likely reason why it does not fit the network."""
    expected = network.state_dict()
    if any(name.startswith(_COUPLED_HEAD) for name in state):
        raise InputError(
            f"{path}: expected a detector with cls_head_2 and reg_head_2, got a checkpoint of the older layout with "
            f"coupled heads ({_COUPLED_HEAD}*)"
        )
    if _is_bare_backbone(state, expected) or all(name.startswith(BACKBONE_PREFIX) for name in state):
        raise InputError(
            f"{path}: expected a whole detector, got a backbone alone; "
            "training can start from it (--weights or pre_weights)"
        )

    other_shape = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    heads = {"output_cls_layers.bias": "classes", "output_obj_layers.bias": "anchors per scale"}
    faults = [
        f"has {len(state[name])} {unit}, {asked_by} says {len(expected[name])}"
        for name, unit in heads.items()
        if name in other_shape and state[name].ndim == 1
    ]
    if faults:
        raise InputError(f"{path}: {'; '.join(faults)}")

    lists = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} ({list(state[name].shape)}, expected {list(expected[name].shape)})" for name in other_shape
        ],
    }
    faults = [f"{len(names)} {fault}: {list_names(names)}" for fault, names in lists.items() if names]
    if faults:
        raise InputError(f"{path}: does not fit the detector; tensors {'; '.join(faults)}")
    _check_finite(state, path)
    network.load_state_dict(state)
