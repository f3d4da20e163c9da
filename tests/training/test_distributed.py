"""Training in several processes: equal results, and the end of a run when a process is killed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import distributed_run
from tests.helpers.training_files import assert_equal, results, write_shapes
from utils.training import distributed
from utils.training.recipe import RECIPES

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPO)}
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform != "linux", reason="this PyTorch has no gloo, or no /proc here"
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, batch_size=8, epochs=2, steps="1")
    return folder


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request):
    return request.param


@pytest.fixture(scope="module")
def alone(shapes, recipe):
    """Return the results of one process."""
    result = shapes / "alone.pth"
    distributed_run.main(str(shapes / "small.data"), result, recipe)
    return torch.load(result, weights_only=False)


def assert_same_step(one, other):
    """Compare gradients: tolerance 1e-4 of the tensor's largest value plus 1e-7 of the largest value of all."""
    assert one.keys() == other.keys()
    largest = max(change.abs().max() for change in one.values())
    assert largest > 0
    for name in one:
        limit = 1e-4 * one[name].abs().max() + 1e-7 * largest
        assert (one[name] - other[name]).abs().max() <= limit, name


@pytest.mark.slow
def test_two_processes_compute_what_one_does(shapes, alone, recipe):
    result = shapes / "together.pth"
    command = [
        *TORCHRUN,
        str(REPO / "tests/helpers/distributed_run.py"),
        str(shapes / "small.data"),
        str(result),
        recipe,
    ]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=shapes, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    together = torch.load(result, weights_only=False)
    assert_same_step(alone["change"], together["change"])
    assert sum(map(len, alone["metrics"]["detections"])) > 100
    assert_equal(alone["metrics"], together["metrics"])
    # Each warning about the data is printed once.
    assert done.stderr.count("classes with fewer than") == alone_warnings(shapes)


def alone_warnings(shapes):
    """Return the count of lists with a warning about rare classes: train and val."""
    return sum((shapes / f"shapes/{key}.txt").exists() for key in ("train", "val"))


@pytest.mark.parametrize("subdivisions", [2, 4])
def test_subdivisions_give_the_step_of_the_whole_batch(shapes, alone, recipe, subdivisions, tmp_path):
    text = (shapes / "small.data").read_text(encoding="utf-8")
    data = shapes / f"parts{subdivisions}.data"
    data.write_text(text.replace("subdivisions=1", f"subdivisions={subdivisions}"), encoding="utf-8")
    distributed_run.main(str(data), tmp_path / "parts.pth", recipe)
    parts = torch.load(tmp_path / "parts.pth", weights_only=False)
    assert_same_step(alone["change"], parts["change"])


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def rank_of(pid):
    found = re.search(rb"\0RANK=(\d+)", Path(f"/proc/{pid}/environ").read_bytes())
    return int(found[1]) if found else None


@pytest.mark.slow
def test_run_ends_and_can_be_resumed_when_a_process_dies(shapes, tmp_path):
    command = [*TORCHRUN, str(REPO / "train.py"), "--data", str(shapes / "small.data"), "--workers", "0"]
    process = subprocess.Popen(
        [*command, "--epochs", "500"],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch 2/500"):
            break
    other = next(pid for pid in children(process.pid) if rank_of(pid) == 1)
    os.kill(other, 9)
    lines += process.communicate(timeout=600)[0].splitlines(keepends=True)
    output = "".join(lines)
    assert process.returncode != 0
    assert "batch 8 over 2 processes" in output
    assert sum(line.startswith("epoch 1/500") for line in lines) == 1  # only the main process prints
    errors = [line for line in lines if line.startswith("error: ")]
    assert errors == [
        "error: another process of this run has ended; continue with: "
        "torchrun --nproc_per_node=2 train.py --resume weights/small-last.pth\n"
    ]

    saved = torch.load(tmp_path / "weights/small-last.pth", weights_only=True)
    epochs = saved["progress"]["epoch"] + 1
    command = [sys.executable, str(REPO / "train.py"), "--resume", "--epochs", str(epochs)]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(results(tmp_path / "runs/train/small")) == epochs


@pytest.mark.slow
def test_an_input_error_is_printed_once(tmp_path):
    command = [*TORCHRUN, str(REPO / "train.py"), "--data", "absent.data"]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode != 0
    assert done.stderr.count("absent.data: cannot read") == 1


@pytest.mark.slow
def test_a_folder_that_cannot_be_created_is_one_error(shapes, tmp_path):
    (tmp_path / "weights").write_text("a file")
    command = [*TORCHRUN, str(REPO / "train.py"), "--data", str(shapes / "small.data"), "--workers", "0"]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        "error: weights: cannot create: File exists"
    ]


def test_one_process_needs_no_group():
    with distributed.process_group(), distributed.main_first():
        assert distributed.rank() == 0
        assert distributed.world_size() == 1
        assert distributed.is_main()
    tensor = torch.arange(3)
    assert distributed.sum_over_processes(tensor) is tensor
    assert distributed.gather_lists([1, 2]) == [1, 2]
    assert distributed.from_main("value") == "value"
    assert distributed.any_process(True) is True
    assert not distributed.is_lost_process(RuntimeError("Connection closed by peer"))
