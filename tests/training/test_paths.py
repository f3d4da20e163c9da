"""The files of a training run: names that no other run has, and the checkpoint to resume from."""

import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from utils.errors import InputError, RunError
from utils.training.paths import WEIGHTS, RunPaths, find_checkpoint, new_paths, remove_unfinished, resumable


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def save(name, time, model_name=None):
    """Write a checkpoint without tensors; with a description if a model name is given."""
    path = RunPaths(name, None).last
    path.parent.mkdir(exist_ok=True)
    model = OrderedDict()
    if model_name:
        model.description = {"model_name": model_name}
    empty = dict.fromkeys(("ema", "optimiser", "scaler", "folder", "options", "progress"))
    torch.save({"model": model, "name": name, **empty}, path)
    os.utime(path, (time, time))
    return path


def test_a_name_is_used_once():
    assert [new_paths("runs", "small").name for _ in range(3)] == ["small", "small-2", "small-3"]


@pytest.mark.parametrize("taken", ["weights/small-last.pth", "runs/small"])
def test_a_name_is_taken_by_weights_or_a_folder(tmp_path, taken):
    path = tmp_path / taken
    path.parent.mkdir(parents=True)
    path.write_bytes(b"earlier") if path.suffix else path.mkdir()
    paths = new_paths("runs", "small")
    assert (paths.name, paths.folder.name) == ("small-2", "small-2")
    assert path.read_bytes() == b"earlier" if path.suffix else not any(path.iterdir())
    assert RunPaths("small", None).last.exists() == (taken == "weights/small-last.pth")


def test_names_are_claimed_at_the_same_time():
    """Also by runs with different output folders, whose weights are in one folder."""
    with ThreadPoolExecutor(16) as pool:
        paths = list(pool.map(lambda number: new_paths(f"runs{number % 3}", "small"), range(60)))
    assert len({path.name for path in paths}) == 60
    assert all(path.folder.is_dir() and path.last.is_file() for path in paths)


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"^runs: "):
        new_paths("runs", "small")
    assert not RunPaths("small", None).last.exists()


def test_the_newest_checkpoint_of_a_model_name():
    save("small", 10), save("small-2", 30), save("small-3", 20)
    save("small-net", 40), save("smaller", 50), save("a.small", 60)
    assert find_checkpoint("small") == WEIGHTS / "small-2-last.pth"
    assert find_checkpoint("a.small") == WEIGHTS / "a.small-last.pth"
    assert find_checkpoint(None) == WEIGHTS / "a.small-last.pth"
    with pytest.raises(InputError, match=r"^--resume: .*asmall-last.pth.* in weights/"):
        find_checkpoint("asmall")


def test_a_model_name_may_end_like_the_number_of_a_run():
    save("small", 10, "small"), save("small-2", 20, "small"), save("small-160", 30, "small-160")
    assert find_checkpoint("small") == WEIGHTS / "small-2-last.pth"
    assert find_checkpoint("small-160") == WEIGHTS / "small-160-last.pth"
    (WEIGHTS / "small-2-last.pth").unlink()
    (WEIGHTS / "small-last.pth").unlink()
    with pytest.raises(InputError, match=r"^--resume: .*small-last.pth.* in weights/"):
        find_checkpoint("small")


def test_the_checkpoint_of_a_run_that_wrote_nothing_is_skipped():
    earlier = save("small", 10)
    new_paths("runs", "small")
    assert find_checkpoint("small") == earlier


def test_no_checkpoint():
    with pytest.raises(InputError, match=r"^--resume: .*NAME-last.pth"):
        find_checkpoint(None)


def test_unfinished_files_of_a_run_are_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = new_paths("runs", "a.b")
    left = [".a.b-last-abcd_123.pth", ".a.b-best-abcd_123.pth", ".a.b-3-epoch-0.123456ap-model-abcd_123.pth"]
    kept = [".a.b-2-last-abcd_123.pth", ".axb-last-abcd_123.pth", ".a.b-last.pth", ".a.b-extra-abcd_123.pth"]
    for name in left + kept:
        Path("weights", name).touch()
    for name in (".results-abcd_123.png", "results.png", ".hidden.png"):
        (paths.folder / name).touch()
    remove_unfinished(paths)
    assert sorted(path.name for path in Path("weights").iterdir()) == sorted([*kept, "a.b-last.pth"])
    assert sorted(path.name for path in paths.folder.iterdir()) == [".hidden.png", "results.png"]


def test_too_little_memory_of_a_gpu_names_the_command_that_continues(monkeypatch):
    monkeypatch.delattr(torch, "OutOfMemoryError", raising=False)  # PyTorch 2.3 has it only in torch.cuda
    message = r"out of memory: .*train.py --resume weights/small-last.pth"
    with pytest.raises(RunError, match=message), resumable(RunPaths("small", None)):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")


def test_unfinished_files_with_long_names_are_removed():
    paths = new_paths("runs", "a" * 100)  # the longest name
    for last_part in ("-last", "-best", "-3-epoch-0.123456ap-model"):
        Path("weights", f".{paths.name}{last_part}-abcd_123.pth").touch()
    other = Path("weights", f".{paths.name}-2-last-abcd_123.pth")
    other.touch()
    remove_unfinished(paths)
    assert sorted(path.name for path in Path("weights").iterdir()) == sorted([other.name, paths.last.name])
