"""Reading weights files of all kinds, valid and invalid, into a detector."""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.detector import Detector
from utils.errors import InputError
from utils.provenance import file_hash
from utils.weights.checkpoint import load_detector, load_matching, load_weights, read_weights

RELEASED = "reference/coco2017-0.241078ap-model.pth"
BACKBONE = "reference/backbone.pth"


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return Detector(classes=2, anchor_num=3)


@pytest.fixture(scope="module")
def state(detector):
    return detector.state_dict()


def fresh():
    """A detector of the same shape with other weights."""
    torch.manual_seed(1)
    return Detector(classes=2, anchor_num=3)


def save(content, path):
    torch.save(content, path)
    return path


def assert_same(first, second):
    assert list(first) == list(second)
    for name in first:
        assert torch.equal(first[name], second[name]), name


# Readable files


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="plain state dict"),
        pytest.param(lambda state: {"model": state, "ema": None, "epoch": 3}, id="training checkpoint"),
        pytest.param(lambda state: {"model": {}, "ema": state, "epoch": 3}, id="EMA weights win"),
        pytest.param(lambda state: {f"module.{name}": t for name, t in state.items()}, id="DistributedDataParallel"),
        pytest.param(lambda state: {f"_orig_mod.{name}": t for name, t in state.items()}, id="torch.compile"),
        pytest.param(lambda state: {f"_orig_mod.module.{name}": t for name, t in state.items()}, id="both"),
    ],
)
def test_reads_all_kinds_of_weights_files(tmp_path, state, wrap):
    path = save(wrap(state), tmp_path / "w.pth")
    assert_same(read_weights(path).tensors, state)
    other = fresh()
    load_weights(other, path)
    assert_same(other.state_dict(), state)


def test_reads_the_format_before_torch_1_6(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert_same(read_weights(path).tensors, state)


def test_half_precision_weights_load_into_a_full_precision_detector(tmp_path, state):
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    other = fresh()
    load_weights(other, save(halves, tmp_path / "w.pth"))
    assert other.output_reg_layers.weight.dtype == torch.float32
    torch.testing.assert_close(other.output_reg_layers.weight, state["output_reg_layers.weight"], atol=1e-3, rtol=1e-3)


def test_released_files_load_on_the_cpu(shared):
    for name in (RELEASED, BACKBONE):
        assert {tensor.device.type for tensor in read_weights(shared / name).tensors.values()} == {"cpu"}


# Unreadable files


def write(content):
    return lambda path, detector: path.write_bytes(content)


def torch_save(content, **options):
    return lambda path, detector: torch.save(content, path, **options)


def cut(part):
    def make(path, detector):
        torch.save(detector.state_dict(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * part)])

    return make


def overwritten(path, detector):
    torch.save(detector.state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        position = next(entry.header_offset for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
    content = bytearray(path.read_bytes())
    content[position + 200 : position + 400] = b"\xff" * 200
    path.write_bytes(bytes(content))


def scripted(path, detector):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


def unrelated_zip(path, detector):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "x")


def deflated(path, detector):
    """A checkpoint with 200 MB of zeros in 200 kB."""
    torch.save(detector.state_dict(), path)
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = next(name for name in entries if name.endswith("data/0"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in {**entries, name: bytes(200_000_000)}.items():
            archive.writestr(entry, content)


NOT_PYTORCH = "expected a PyTorch weights file"
OBJECTS = "expected tensors only, .* got Python objects .*could run code"
NOT_TENSORS = "expected a dict of tensors by name, got "
UNREADABLE = {
    "missing": (lambda path, detector: None, "cannot read: No such file"),
    "folder": (lambda path, detector: path.mkdir(), "cannot read: Is a directory"),
    "deflate bomb": (deflated, "expected a PyTorch weights file, got .* bytes in one of"),
    "sparse": (torch_save({"a": torch.zeros(2, 2).to_sparse()}), "expected a dict of tensors by name, got 'a'"),
    "complex": (torch_save({"a": torch.zeros(2, dtype=torch.complex64)}), "expected a dict of tensors by name, got"),
    "empty": (write(b""), "got an empty file"),
    "one byte": (write(b"\x80"), NOT_PYTORCH),
    "text": (write(b"hello world\n"), NOT_PYTORCH),
    "a web page": (write(b"<!DOCTYPE html>\n<html>404</html>"), NOT_PYTORCH),
    "an image": (write(b"\x89PNG\r\n\x1a\n" + bytes(100)), NOT_PYTORCH),
    "random bytes": (write(np.random.default_rng(0).bytes(2000)), NOT_PYTORCH),
    "another zip": (unrelated_zip, NOT_PYTORCH),
    "plain pickle": (write(pickle.dumps({"a": 1}, protocol=4)), NOT_PYTORCH),
    "cut at 99 %": (cut(0.99), NOT_PYTORCH),
    "cut in half": (cut(0.5), NOT_PYTORCH),
    "cut at 1 %": (cut(0.01), NOT_PYTORCH),
    "overwritten inside": (overwritten, NOT_PYTORCH),
    "whole model": (lambda path, detector: torch.save(detector, path), OBJECTS),
    "whole model, old format": (
        lambda path, detector: torch.save(detector, path, _use_new_zipfile_serialization=False),
        OBJECTS,
    ),
    "other objects": (torch_save({"a": SimpleNamespace()}), OBJECTS),
    "arrays": (torch_save({"a": np.zeros(3)}), OBJECTS),
    "scripted": (scripted, OBJECTS),
    "a tensor": (torch_save(torch.zeros(2)), f"{NOT_TENSORS}a Tensor"),
    "a list": (torch_save([torch.zeros(2)]), f"{NOT_TENSORS}a list"),
    "nothing": (torch_save(None), f"{NOT_TENSORS}a NoneType"),
    "empty dict": (torch_save({}), f"{NOT_TENSORS}an empty one"),
    "no tensors": (torch_save({"epoch": 3}), f"{NOT_TENSORS}'epoch': a int"),
    "numbered": (torch_save({0: torch.zeros(2)}), f"{NOT_TENSORS}0: a Tensor"),
    "foreign checkpoint": (
        torch_save({"state_dict": {"a": torch.zeros(2)}}),
        f"{NOT_TENSORS}'state_dict': a dict",
    ),
    "optimizer": (
        torch_save(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1).state_dict()),
        f"{NOT_TENSORS}'state': a dict",
    ),
    "empty checkpoint": (
        torch_save({"model": {}, "ema": None}),
        f"{NOT_TENSORS}an empty one",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
@pytest.mark.parametrize("load", [load_weights, load_matching])
def test_unreadable_files(tmp_path, detector, case, load):
    make, message = UNREADABLE[case]
    path = tmp_path / "w.pth"
    make(path, detector)
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{message}"):
        load(detector, path)
    assert_same(detector.state_dict(), before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("load", [load_weights, load_matching])
def test_weights_that_are_not_finite(tmp_path, detector, state, value, load):
    path = tmp_path / "w.pth"
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["output_reg_layers.weight"][0, 0] = value
    save(changed, path)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: 1 of .*not finite: output_reg_layers.weight"):
        load(detector, path)


def test_a_small_file_of_a_huge_tensor(tmp_path, detector, state):
    """A tensor with strides of 0 needs no memory until it is computed with."""
    path = tmp_path / "w.pth"
    save({**state, "output_reg_layers.weight": torch.zeros(1).expand(2**20, 2**20)}, path)
    with pytest.raises(InputError, match=r"output_reg_layers\.weight"):
        load_weights(detector, path)
    assert load_matching(detector, path) == ["output_reg_layers.weight"]


def test_a_pickled_command_is_not_run(tmp_path, detector):
    class Command:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    with pytest.raises(InputError, match="could run code"):
        load_weights(detector, save({"a": Command()}, tmp_path / "w.pth"))
    assert not (tmp_path / "ran").exists()


# Readable files that do not fit


def without(*names):
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


def only(prefix, strip=""):
    return lambda state: {name.removeprefix(strip): tensor for name, tensor in state.items() if name.startswith(prefix)}


def changed(**shapes):
    return lambda state: state | {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


BACKBONE_ALONE = "got a backbone alone; .*pre_weights.*"
MISFITS = {
    "one missing": (
        without("output_cls_layers.bias"),
        "does not fit .* 1 missing: output_cls_layers.bias",
    ),
    "four missing": (
        without(*(f"output_{kind}_layers.{part}" for kind in ("reg", "obj") for part in ("weight", "bias"))),
        "does not fit .* 4 missing: output_reg_layers.weight, output_reg_layers.bias, "
        "output_obj_layers.weight and 1 more",
    ),
    "one unexpected": (
        changed(extra=(1,)),
        "does not fit .* 1 unexpected: extra",
    ),
    "one of another shape": (
        changed(fpn__conv1x1_2__0__weight=(96, 288, 1, 1)),
        "does not fit .* 1 of another shape: fpn.conv1x1_2.0.weight ([96, 288, 1, 1], expected [72, 288, 1, 1])",
    ),
    "all three": (
        lambda state: without("output_reg_layers.bias")(changed(extra=(), output_reg_layers__weight=(1, 2))(state)),
        "does not fit .* 1 missing: output_reg_layers.bias; 1 unexpected: extra; "
        "1 of another shape: output_reg_layers.weight ([1, 2], expected [12, 72, 1, 1])",
    ),
    "a scalar": (
        changed(output_reg_layers__bias=()),
        "does not fit .* 1 of another shape: output_reg_layers.bias ([], expected [12])",
    ),
    "another network": (
        lambda state: {f"features.{number}.weight": torch.zeros(1) for number in range(5)},
        "does not fit .* 444 missing: backbone.first_conv.0.weight, backbone.first_conv.1.weight, "
        "backbone.first_conv.1.bias and 441 more; 5 unexpected: features.0.weight, features.1.weight, "
        "features.2.weight and 2 more",
    ),
    "other classes": (
        changed(output_cls_layers__weight=(80, 72, 1, 1), output_cls_layers__bias=(80,)),
        "has 80 classes, data/x.data says 2",
    ),
    "other anchors": (
        changed(
            output_reg_layers__weight=(20, 72, 1, 1),
            output_reg_layers__bias=(20,),
            output_obj_layers__weight=(5, 72, 1, 1),
            output_obj_layers__bias=(5,),
        ),
        "has 5 anchors per scale, data/x.data says 3",
    ),
    "other classes and anchors": (
        changed(output_cls_layers__bias=(1,), output_obj_layers__bias=(1,)),
        "has 1 classes, data/x.data says 2; has 1 anchors per scale, data/x.data says 3",
    ),
    "coupled heads": (
        lambda state: {
            name.replace("cls_head_", "head_"): tensor for name, tensor in state.items() if "reg_head_" not in name
        },
        "expected .* cls_head_2 and reg_head_2, got .* older layout with coupled heads (fpn.head_2.*)",
    ),
    "backbone without prefix": (only("backbone.", strip="backbone."), BACKBONE_ALONE),
    "backbone with prefix": (only("backbone."), BACKBONE_ALONE),
}


@pytest.mark.parametrize("case", MISFITS)
def test_weights_that_do_not_fit(tmp_path, detector, state, case):
    change, message = MISFITS[case]
    path = save(change(state), tmp_path / "w.pth")
    before = {name: tensor.clone() for name, tensor in state.items()}
    literals = f"{path}: .*{message}".split(".*")
    with pytest.raises(InputError, match=f"^{'.*'.join(map(re.escape, literals))}$"):
        load_weights(detector, path, asked_by="data/x.data")
    assert_same(detector.state_dict(), before)


def test_released_files_in_a_detector_of_two_classes(shared, detector):
    with pytest.raises(InputError, match=r"model\.pth: .*80 classes.* 2$"):
        load_weights(detector, shared / RELEASED)
    with pytest.raises(InputError, match=r"backbone\.pth: .*backbone alone"):
        load_weights(detector, shared / BACKBONE)


# Partial loading


def test_load_matching_loads_what_fits_and_lists_the_rest(tmp_path, state):
    changes = changed(output_cls_layers__weight=(80, 72, 1, 1), output_cls_layers__bias=(80,), extra=(3,))
    path = save(changes(state), tmp_path / "w.pth")
    other = fresh()
    own = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    assert load_matching(other, path) == ["output_cls_layers.weight", "output_cls_layers.bias", "extra"]
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, own[name] if "output_cls_layers" in name else state[name]), name


def test_load_matching_loads_a_whole_checkpoint(tmp_path, state):
    other = fresh()
    assert load_matching(other, save({"model": state, "ema": None}, tmp_path / "w.pth")) == []
    assert_same(other.state_dict(), state)


def test_load_matching_loads_a_backbone(shared):
    other = fresh()
    assert load_matching(other, shared / BACKBONE) == []
    assert_same(other.backbone.state_dict(), read_weights(shared / BACKBONE).tensors)


def test_load_matching_loads_a_backbone_with_prefix(tmp_path, state):
    other = fresh()
    assert load_matching(other, save(only("backbone.")(state), tmp_path / "w.pth")) == []
    assert torch.equal(other.backbone.first_conv[0].weight, state["backbone.first_conv.0.weight"])


def test_load_matching_loads_the_backbone_of_the_older_layout(tmp_path, state):
    change, _ = MISFITS["coupled heads"]
    skipped = load_matching(fresh(), save(change(state), tmp_path / "w.pth"))
    assert skipped
    assert all(name.startswith("fpn.head_") for name in skipped)


def test_load_matching_with_other_classes(shared):
    assert load_matching(fresh(), shared / RELEASED) == ["output_cls_layers.weight", "output_cls_layers.bias"]


def test_load_matching_without_a_match_is_an_error(tmp_path):
    path = save({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: none .* 2 tensors .*: a, b$"):
        load_matching(fresh(), path)


# load_detector and weights_hash


def test_load_detector_is_ready_to_detect(tmp_path, state):
    config = SimpleNamespace(classes=2, anchor_num=3, path="data/x.data")
    loaded, _ = load_detector(save(state, tmp_path / "w.pth"), config)
    assert isinstance(loaded, Detector)
    assert not loaded.training
    assert_same(loaded.state_dict(), state)


def test_load_detector_names_the_data_file(tmp_path, state):
    config = SimpleNamespace(classes=5, anchor_num=3, path="data/x.data")
    path = save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: .*2 classes, data/x\.data says 5$"):
        load_detector(path, config)


def test_load_detector_of_a_missing_unlisted_file(tmp_path):
    config = SimpleNamespace(classes=5, anchor_num=3, path="data/x.data")
    with pytest.raises(InputError, match=r"mine\.pth: cannot read"):
        load_detector(tmp_path / "mine.pth", config)


def described(state, **changes):
    """A state dict with a description."""
    state = OrderedDict(state)
    content = {"format": 1, "model_name": "pets", "names": ["cat", "dog"], "width": 96, "height": 64}
    anchors = [[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 10.0], [11.0, 12.0]]]
    state.description = {**content, "anchors": anchors, **changes}
    return state


def config_like(**changes):
    anchors = (((1.0, 2.0), (3.0, 4.0), (5.0, 6.0)), ((7.0, 8.0), (9.0, 10.0), (11.0, 12.0)))
    values = {"classes": 2, "anchor_num": 3, "class_names": ("cat", "dog"), "anchors": anchors, "path": "data/x.data"}
    return SimpleNamespace(**{**values, "width": 96, "height": 64, **changes})


def test_the_description_replaces_the_data_file(tmp_path, state):
    path = save(described(state), tmp_path / "w.pth")
    detector, model = load_detector(path, None)
    assert_same(detector.state_dict(), state)
    assert (model.class_names, model.width, model.height) == (("cat", "dog"), 96, 64)
    assert model.anchors == config_like().anchors


def test_weights_without_description_need_a_data_file(tmp_path, state):
    with pytest.raises(InputError, match=r"^--data: .*w\.pth"):
        load_detector(save(state, tmp_path / "w.pth"), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b", "c"), "classes": 3}, r"2 classes, data/x\.data has 3"),
        ({"class_names": ("car", "bus")}, r"cat, dog, data/x\.data has car, bus"),
        ({"class_names": ("dog", "cat")}, r"class 0 'cat', data/x\.data has 'dog'"),
    ],
)
def test_weights_of_other_classes_are_refused(tmp_path, state, changes, message):
    path = save(described(state), tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: .*{message}"):
        load_detector(path, config_like(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("Katze", "dog")}, ("'cat'", "'Katze'")),
        ({"width": 128}, ("96x64", "128x64")),
        ({"anchors": (((1.0, 2.0),) * 3,) * 2}, ("anchors", "data/x.data")),
        ({}, None),
    ],
)
def test_other_names_sizes_and_anchors_cause_a_warning(tmp_path, state, capsys, changes, words):
    config = config_like(**changes)
    _, model = load_detector(save(described(state), tmp_path / "w.pth"), config)
    assert (model.class_names, model.width) == (config.class_names, config.width)
    assert model.anchors == config_like().anchors
    printed = capsys.readouterr().err
    assert all(word in printed for word in words) if words else not printed


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"names": "cat"}, "names"),
        ({"width": 10**400}, "width"),
        ({"anchors": None}, "anchors"),
        ({"format": 2}, "format"),
    ],
)
def test_a_malformed_description_is_refused(tmp_path, state, changes, key):
    path = save(described(state, **changes), tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"w\.pth: {key}: "):
        load_detector(path, config_like())


def test_a_description_that_is_no_dict_is_refused(tmp_path, state):
    state = described(state)
    state.description = ["cat"]
    with pytest.raises(InputError, match=r"w\.pth: .*list"):
        load_detector(save(state, tmp_path / "w.pth"), config_like())


def test_file_hash(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights")
    assert file_hash(path) == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(InputError, match=r"none\.pth: cannot read"):
        file_hash(tmp_path / "none.pth")
