"""Weights: the one place where a file becomes the parameters of a detector.

A weights file is a plain state dict (the released files, `NAME-EPOCH-epoch-APap-model.pth`) or a checkpoint of our
training, a dict with the state dict under "model" and, when weights were averaged, the averaged one under "ema".
"""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from model.detector import Detector
from utils.errors import InputError, RunError
from utils.files import atomic_path
from utils.weights.download import MANIFEST, obtain

BACKBONE_PREFIX = "backbone."
_COUPLED_HEAD = "fpn.head_2."
# DistributedDataParallel and torch.compile wrap the network and put their name in front of its tensors' names.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
_SHOWN = 3  # names in an error before "and N more"


def read_state_dict(path):
    """Tensors of a weights file, on the CPU, by the names they have in `Detector`.

    Of a training checkpoint the averaged weights ("ema") are taken when it has them.

    Returns:
        dict[str, Tensor]
    Raises:
        InputError: the file is missing, no PyTorch file, damaged, or holds something else than named tensors.
    """
    content = _load(Path(path))
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content.get("ema") or content["model"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a dict of tensors by name, got a {type(content).__name__}")
    for name, tensor in content.items():
        if not (isinstance(name, str) and isinstance(tensor, torch.Tensor)):
            raise InputError(f"{path}: expected a dict of tensors by name, got {name!r}: a {type(tensor).__name__}")
    if not content:
        raise InputError(f"{path}: expected a dict of tensors by name, got an empty one")
    return {_WRAPPERS.sub("", name): tensor for name, tensor in content.items()}


def load_weights(detector, path, asked_by="the model"):
    """Fill `detector` from a weights file, every tensor of it and nothing else.

    Args:
        asked_by: who fixed the number of classes and anchors, for the error; usually the .data file.
    Raises:
        InputError: as `read_state_dict`, or the tensors are not exactly the detector's.
    """
    state = read_state_dict(path)
    expected = detector.state_dict()
    _check_kind(path, state, expected)
    _check_heads(path, state, expected, asked_by)
    _check_tensors(path, state, expected)
    detector.load_state_dict(state)


def load_matching(detector, path):
    """Fill `detector` with every tensor of a weights file that fits it; the rest of the detector stays as it is.

    The file may be a backbone alone, a checkpoint of another number of classes or anchors, or of the older layout.

    Returns:
        list of the names in the file that were skipped, because the detector has no such tensor or one of
        another shape, in the order of the file.
    Raises:
        InputError: as `read_state_dict`, or no tensor fits.
    """
    state = read_state_dict(path)
    expected = detector.state_dict()
    if _is_bare_backbone(state, expected):
        state = {BACKBONE_PREFIX + name: tensor for name, tensor in state.items()}
    fitting = {name: tensor for name, tensor in state.items() if name in expected and _fits(tensor, expected[name])}
    if not fitting:
        raise InputError(f"{path}: none of its {len(state)} tensors fits the detector: {_some(state)}")
    detector.load_state_dict(fitting, strict=False)
    return [name for name in state if name not in fitting]


def load_detector(path, config, device="cpu", manifest=MANIFEST):
    """The detector of a .data file with weights from `path`, on `device`, ready to detect.

    Weights that are missing but listed in the model zoo are downloaded first (`utils.weights.download.obtain`).

    Args:
        config: the .data file's Config.
        manifest: list of what can be downloaded.
    Returns:
        Detector in evaluation mode.
    Raises:
        InputError: as `load_weights`. RunError: as `obtain`.
    """
    detector = Detector(config.classes, config.anchor_num)
    load_weights(detector, obtain(path, manifest), asked_by=config.path)
    return detector.to(device).eval()


def weights_hash(path):
    """SHA-256 of a file, as 64 hexadecimal digits: what names the weights that a result was made with."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error


def save_weights(path, network):
    """Write a network's weights as a plain state dict that every script, and the original, can load.

    Raises:
        RunError: the disk is full or the like; what was at `path` stays.
    """
    _save(path, _plain_state(network))


def save_training(path, training, state):
    """Write everything that a training run needs to go on.

    Args:
        training: TrainingState.
        state: dict of plain values, merged in.
    Raises:
        RunError: as `save_weights`.
    """
    content = {
        "model": _plain_state(training.model),
        "ema": None if training.ema is None else _plain_state(training.ema),
        "optimiser": training.optimizer.state_dict(),
        "scaler": training.scaler.state_dict(),
        **state,
    }
    _save(path, content)


def read_training(path):
    """What `save_training` wrote, and `path` itself under "path".

    Raises:
        InputError: the file is missing, damaged, or holds weights only.
    """
    content = _load(Path(path))
    wanted = ("model", "ema", "optimiser", "scaler", "name", "folder", "options", "progress")
    if not isinstance(content, Mapping) or not all(key in content for key in wanted):
        raise InputError(f"{path}: expected a training checkpoint (NAME-last.pth) to go on from, got weights only")
    return {**content, "path": str(path)}


def restore_training(training, saved, asked_by):
    """Give a TrainingState the weights, the average and the optimiser's state of `read_training`.

    An average is begun with the weights where the checkpoint has none.

    Args:
        training: TrainingState that is not wrapped for several processes yet.
        asked_by: who fixed the number of classes and anchors, for the error.
    Raises:
        InputError: the tensors are not the detector's.
    """
    path, expected = saved["path"], training.model.state_dict()
    for network, state in ((training.model, saved["model"]), (training.ema, saved["ema"] or saved["model"])):
        if network is not None:
            _check_heads(path, state, expected, asked_by)
            _check_tensors(path, state, expected)
            network.load_state_dict(state)
    try:
        training.optimizer.load_state_dict(saved["optimiser"])
        if saved["scaler"] and training.scaler.is_enabled():
            training.scaler.load_state_dict(saved["scaler"])
    except (ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: its optimiser's state does not fit this recipe: {error}") from error


def _plain_state(network):
    """Tensors by name in the plain memory layout, on the CPU, sharing nothing with the network."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


def _save(path, content):
    # By way of memory, because on a full disk PyTorch's own writer fails with a riddle.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise RunError(
            f"{path}: cannot write this checkpoint, what was there before is whole: {error.strerror or error}"
        ) from error


def _load(path):
    if path.is_dir():
        raise InputError(f"{path}: expected a weights file, got a folder")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read these weights: {error.strerror}") from error
    if not content:
        raise InputError(f"{path}: expected a weights file, got an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and TorchScript; the error says it better
            # The released files were saved from a GPU.
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint make the unpickler fail in any way at all
        if re.search(r"nsupported (global|class)|TorchScript", str(error), re.IGNORECASE):
            raise InputError(
                f"{path}: holds Python objects (a whole pickled or scripted model?), which could run code when loaded; "
                f"expected tensors only, as torch.save(model.state_dict(), …) writes"
            ) from error
        raise InputError(f"{path}: expected a PyTorch weights file, got something else or a damaged one") from error


def _is_bare_backbone(state, expected):
    """Whether the file holds a backbone alone, whose names lack the prefix."""
    return not any(name in expected for name in state) and any(BACKBONE_PREFIX + name in expected for name in state)


def _check_kind(path, state, expected):
    if any(name.startswith(_COUPLED_HEAD) for name in state):
        raise InputError(
            f"{path}: is a checkpoint of the older layout with coupled heads ({_COUPLED_HEAD}*), which this network "
            "does not have; expected one with cls_head_2 and reg_head_2"
        )
    if _is_bare_backbone(state, expected) or all(name.startswith(BACKBONE_PREFIX) for name in state):
        raise InputError(
            f"{path}: holds a backbone alone, which training starts from (pre_weights); expected a whole detector"
        )


def _check_heads(path, state, expected, asked_by):
    """Another number of classes or anchors is the likeliest reason for a misfit and gets its own words."""
    faults = []
    for name, things in (("output_cls_layers.bias", "classes"), ("output_obj_layers.bias", "anchors a scale")):
        if name in state and state[name].ndim == 1 and not _fits(state[name], expected[name]):
            faults.append(f"has {len(state[name])} {things}, {asked_by} says {len(expected[name])}")
    if faults:
        raise InputError(f"{path}: {'; '.join(faults)}")


def _check_tensors(path, state, expected):
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshaped = [
        f"{name} ({_shape(state[name])}, expected {_shape(expected[name])})"
        for name in expected
        if name in state and not _fits(state[name], expected[name])
    ]
    lists = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    faults = [f"{len(names)} {fault}: {_some(names)}" for fault, names in lists.items() if names]
    if faults:
        raise InputError(f"{path}: does not fit the detector; tensors {'; '.join(faults)}")


def _fits(tensor, expected):
    return tensor.shape == expected.shape


def _shape(tensor):
    return "x".join(map(str, tensor.shape)) or "one number"


def _some(names):
    names = list(names)
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
