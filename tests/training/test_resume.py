"""Training runs that are killed or interrupted, and resumed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.training_files import assert_equal, results, without_times, write_shapes

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def start(folder, *arguments):
    """Start train.py in `folder`, with standard output and errors in one pipe."""
    command = [sys.executable, str(REPO / "train.py"), *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    """Wait for a process; return (exit status, output)."""
    output = process.communicate(timeout=600)[0]
    return process.returncode, output


def wait_for(process, text):
    """Read a process's output until a line begins with `text`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(text):
            return
    pytest.fail(f"no line began with {text!r}:\n{''.join(lines)}")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Folder with a .data file; runs are made in folders next to it."""
    folder = tmp_path_factory.mktemp("data")
    write_shapes(folder, batch_size=2, epochs=3, steps="2")
    return folder


def run_folder(shapes, name):
    folder = shapes / name
    folder.mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--workers", 0), ("--workers", 2, "--ema")], ids=["alone", "workers-ema"])
def test_a_killed_and_resumed_run_has_the_same_result(shapes, options, record_property):
    data = shapes / "small.data"
    name = "-".join(map(str, options)).strip("-")
    whole = run_folder(shapes, f"whole{name}")
    status, output = finish(start(whole, "--data", data, *options))
    assert status == 0, output

    seed = random.randrange(1 << 30)
    record_property("seed", seed)
    print(f"seed of the times of the kills: {seed}")
    moments = random.Random(seed)
    killed = run_folder(shapes, f"killed{name}")
    # The run saves after every step, so that kills happen between two saves or during one.
    process = start(killed, "--data", data, *options, "--save-interval", 0)
    kills = 0
    for _ in range(2):
        wait_for(process, "output")
        time.sleep(moments.uniform(0, 1.5))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        process = start(killed, "--resume")
    status, output = finish(process)
    assert status == 0, output
    assert kills, "each run had ended before the kill"

    assert results(killed / "runs/train/small") == results(whole / "runs/train/small")
    names = {path.name for path in (whole / "weights").iterdir()}
    assert {path.name for path in (killed / "weights").iterdir()} == names
    assert len(names) == 5  # three evaluations, best and last
    for name in names:
        saved = [torch.load(folder / "weights" / name, weights_only=True) for folder in (whole, killed)]
        if name == "small-last.pth":
            saved = [without_times(content) for content in saved]
            for content in saved:
                content.pop("options")  # --save-interval
        assert_equal(*saved, name)


@pytest.mark.slow
@pytest.mark.parametrize("to_group", [False, True])  # a terminal signals the whole process group
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_saves_and_the_run_can_be_resumed(shapes, number, to_group):
    folder = run_folder(shapes, f"interrupted{number}{to_group}")
    process = start(folder, "--data", shapes / "small.data", "--workers", 1, "--epochs", 300, "--lr", 0.002)
    wait_for(process, "epoch 1/300")
    os.killpg(process.pid, number) if to_group else process.send_signal(number)
    status, output = finish(process)
    assert status == 128 + number, output
    assert "python3 train.py --resume weights/small-last.pth" in output
    saved = torch.load(folder / "weights/small-last.pth", weights_only=True)
    place = saved["progress"]["epoch"], saved["progress"]["step"]
    assert place >= (1, 0)
    assert saved["options"]["lr"] == 0.002

    if number == signal.SIGTERM or to_group:
        return  # the rest is the same
    # The options of the run are kept, except those given again.
    status, output = finish(start(folder, "--resume", "--epochs", place[0] + 1))
    assert status == 0, output
    assert "learning rate 0.002" in output
    rows = results(folder / "runs/train/small")
    assert [int(row["epoch"]) for row in rows] == list(range(1, place[0] + 2))


@pytest.mark.slow
def test_second_interrupt_ends_at_once(shapes):
    folder = run_folder(shapes, "twice")
    process = start(folder, "--data", shapes / "small.data", "--workers", 0, "--epochs", 300)
    wait_for(process, "epoch 1/300")
    # Without a delay, so that the second Ctrl-C arrives before the run has stopped.
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    status, output = finish(process)
    assert status in (130, 143)
    assert "Traceback" not in output
    assert torch.load(folder / "weights/small-last.pth", weights_only=True)["progress"]["epoch"] >= 1
