"""benchmarks/gpu.py: the command of a whole run."""

import csv
from pathlib import Path

from benchmarks import gpu
from tests.conftest import REPO


def test_a_whole_run_gets_the_options_and_is_started_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = []

    def run(command, cwd, **options):
        commands.append(command)
        folder = Path(cwd, "runs/train/small")
        folder.mkdir(parents=True)
        with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
            row = {"images_per_second": 10.0, "AP50": 0.5, "AP": 0.25}
            writer = csv.DictWriter(file, row)
            writer.writeheader()
            writer.writerow(row)

    monkeypatch.setattr(gpu.subprocess, "run", run)
    options = gpu.build_parser().parse_args(["--data", "small.data", "--cache", "ram", "--workers", "0"])
    measured = gpu.train(options, 3, ("--amp",))
    assert (measured["training, images/s"], measured["AP50"], measured["AP"]) == (10, 0.5, 0.25)
    (command,) = commands
    assert command[1] == str(REPO / "train.py")
    assert command[command.index("--data") + 1] == str(tmp_path / "small.data")
    for option, value in (("--seed", "3"), ("--cache", "ram"), ("--workers", "0")):
        assert command[command.index(option) + 1] == value
    assert "--amp" in command
