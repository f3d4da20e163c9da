"""Runs on a GPU as a user starts them."""

import csv
import os
import re
import signal
import subprocess
import sys

import pytest
import torch

from tests.conftest import REPO
from tests.helpers.training_files import write_shapes

pytestmark = [pytest.mark.gpu, pytest.mark.slow]
TRAIN = (sys.executable, str(REPO / "train.py"))
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=64, val=8, batch_size=8, epochs=4, steps="3")


def run(folder, *command):
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def losses(folder):
    with (folder / "runs" / "train" / "small" / "results.csv").open(encoding="utf-8", newline="") as file:
        return [float(row["total"]) for row in csv.DictReader(file)]


def test_without_options_a_run_uses_the_graph_and_the_gpus_memory(data, tmp_path):
    done = run(tmp_path, *TRAIN, "--data", data)
    assert done.returncode == 0, done.stderr
    assert "CUDA graph" in done.stdout
    assert "cache gpu" in done.stdout
    assert "no CUDA graph" not in done.stderr
    assert len(losses(tmp_path)) == 4


@pytest.mark.parametrize("options", [("--no-graph", "--cache", "none"), ("--cache", "ram", "--amp"), ("--ema",)])
def test_other_ways_to_train_give_similar_losses(data, tmp_path, options):
    folders = [tmp_path / "default", tmp_path / "other"]
    for folder, given in zip(folders, ((), options), strict=True):
        folder.mkdir()
        done = run(folder, *TRAIN, "--data", data, *given)
        assert done.returncode == 0, done.stderr
    first, second = map(losses, folders)
    assert second == pytest.approx(first, rel=0.1)


def test_a_killed_run_continues_with_the_same_losses(data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert run(whole, *TRAIN, "--data", data).returncode == 0
    process = subprocess.Popen(
        list(map(str, (*TRAIN, "--data", data))), cwd=killed, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert run(killed, *TRAIN, "--data", data, "--resume").returncode == 0
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-3)


def test_one_process_of_torchrun(data, tmp_path):
    done = run(tmp_path, *TORCHRUN, "--nproc_per_node=1", REPO / "train.py", "--data", data)
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path)) == 4


def test_more_processes_than_gpus_are_one_error(data, tmp_path):
    count = torch.cuda.device_count() + 1
    done = run(tmp_path, *TORCHRUN, f"--nproc_per_node={count}", REPO / "train.py", "--data", data)
    assert done.returncode != 0
    assert len(re.findall(rf"--nproc_per_node={count}: expected", done.stderr)) == 1
    assert "Traceback" not in done.stderr.split("torch.distributed")[0]


def test_evaluation_finds_the_same_as_on_the_cpu(data, tmp_path):
    weights = REPO / "modelzoo" / "shapes-352.pth"
    found = []
    for device in ("cpu", "cuda"):
        path = tmp_path / f"{device}.json"
        done = run(
            REPO, sys.executable, "evaluation.py", "--data", "data/shapes.data", "--weights", weights,
            "--device", device, "--json", path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append(re.findall(r"AP50\D+([\d.]+)", done.stdout))
    assert found[0]
    assert list(map(float, found[1])) == pytest.approx(list(map(float, found[0])), abs=2e-3)
