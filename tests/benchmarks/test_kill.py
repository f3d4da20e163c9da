"""benchmarks/kill.py: what it sees as a difference."""

import shutil

import pytest
import torch

from benchmarks import kill


@pytest.fixture
def runs(tmp_path):
    """The folders of two equal runs."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    (whole / "weights").mkdir(parents=True)
    (whole / "runs").mkdir()
    torch.save({"model": {"a": torch.arange(3)}, "options": "one"}, whole / "weights/x-last.pth")
    (whole / "runs/results.csv").write_text("epoch,images_per_second\n1,30\n", encoding="utf-8")
    (whole / "runs/results.png").write_bytes(b"an image")
    shutil.copytree(whole, killed)
    (killed / "runs/results.csv").write_text("epoch,images_per_second\n1,20\n", encoding="utf-8")
    torch.save({"model": {"a": torch.arange(3)}, "options": "two"}, killed / "weights/x-last.pth")
    (killed / "runs/events.1").touch()
    return whole, killed


def test_equal_runs(runs):
    assert kill.compare(*runs) == []


CHANGES = {
    "weights/x-last.pth differs": lambda path: torch.save({"model": {"a": torch.zeros(3)}, "options": ""}, path),
    "runs/results.csv differs": lambda path: path.write_text("epoch,images_per_second\n2,20\n", encoding="utf-8"),
    "runs/results.png is empty": lambda path: path.write_bytes(b""),
    "other files: runs/new.png": lambda path: path.with_name("new.png").touch(),
    "other files: runs/results.png": lambda path: path.unlink(),
}


@pytest.mark.parametrize("problem", CHANGES)
def test_each_difference_is_seen(runs, problem):
    whole, killed = runs
    name = problem.removeprefix("other files: ").split()[0]
    CHANGES[problem](killed / name)
    assert kill.compare(whole, killed) == [problem]


def test_an_unfinished_file_is_seen(runs):
    whole, killed = runs
    (killed / "data").mkdir()
    left = killed / "data/.list.64x64-abcd1234.npy"
    left.touch()
    assert kill.compare(whole, killed) == [f"{left} is left"]
