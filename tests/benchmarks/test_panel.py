"""benchmarks/panel.py: valid variants, trainings that are skipped when they are done, and the table."""

import csv
import dataclasses
import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks import panel
from tests.helpers.training_files import write_shapes
from utils.errors import InputError
from utils.training.recipe import RECIPES


def options(*arguments):
    return panel.build_parser().parse_args(list(map(str, arguments)))


@pytest.mark.parametrize("variant", panel.VARIANTS)
def test_variants_change_fields_of_a_recipe(variant):
    start, changes, weights = panel.VARIANTS[variant]
    unchanged = dataclasses.replace(RECIPES[start], **changes) == RECIPES[start] and weights is None
    assert (variant == start) == unchanged


@pytest.mark.slow
def test_finished_trainings_are_not_repeated(tmp_path, monkeypatch, capsys):
    data = write_shapes(tmp_path, train=8)
    monkeypatch.setitem(panel.VARIANTS, "scratch", ("original", {}, "scratch"))
    arguments = ("run", "--sets", data, "--steps", 3, "--threads", 1, "--output", tmp_path / "runs")
    arguments += ("--results", tmp_path / "panel.csv")
    assert panel.main(options(*arguments, "--variants", "scratch")) == 0
    (row,) = panel.read_results(tmp_path / "panel.csv")
    assert (row["set"], row["steps"], row["variant"], row["seed"]) == ("small", "3", "scratch", "0")
    assert row["epochs"] == "2"  # of two steps each
    assert row["start"].startswith("random weights")
    assert 0 <= float(row["AP"]) <= float(row["AP50"]) <= 1
    assert panel.main(options(*arguments, "--variants", "scratch", "--seeds", 0, 1, "--minutes", 1e-6)) == 0
    assert len(panel.read_results(tmp_path / "panel.csv")) == 1
    assert "0 trainings, 1 not started" in capsys.readouterr().out


@pytest.mark.slow
def test_a_training_that_fails_is_named(tmp_path, capsys):
    data = write_shapes(tmp_path, pre_weights="missing.pth")
    done = options("run", "--sets", data, "--steps", 1, "--output", tmp_path, "--results", tmp_path / "panel.csv")
    assert panel.main(done) == 1
    captured = capsys.readouterr()
    assert "0 trainings, 1 failed" in captured.out
    assert "missing.pth" in captured.out + captured.err
    assert not (tmp_path / "panel.csv").exists()


def test_ctrl_c_stops_the_queued_trainings(tmp_path, monkeypatch):
    started = []

    def stop(job, variant, options, deadline):
        time.sleep(0.2)
        started.append(job["seed"])
        raise KeyboardInterrupt

    monkeypatch.setattr(panel, "train", stop)
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", lambda count, context: ThreadPoolExecutor(count))
    arguments = ("run", "--sets", write_shapes(tmp_path, train=8), "--results", tmp_path / "panel.csv", "--seeds")
    with pytest.raises(KeyboardInterrupt):
        panel.main(options(*arguments, *range(10)))
    assert started in ([0], [0, 1])


def test_ctrl_c_before_the_first_step_stops_the_process(tmp_path, monkeypatch):
    """The pool has already given the next training to the process."""
    monkeypatch.setattr(panel, "_stopped", False)
    monkeypatch.setattr("utils.training.run.Run.__init__", interrupt)
    done = options("run", "--sets", write_shapes(tmp_path), "--output", tmp_path)
    job = {"data": done.sets[0], "variant": "default", "seed": 0, "steps": 1}
    with pytest.raises(RuntimeError, match="stopped"):
        panel.train(job, panel.VARIANTS["default"], done, math.inf)
    assert panel.train(job, panel.VARIANTS["default"], done, math.inf) is None


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_file_without_lines_gets_a_header(tmp_path):
    """A process may be killed after it has created the file."""
    path = tmp_path / "panel.csv"
    path.touch()
    row = dict.fromkeys(panel.COLUMNS, "1")
    for _ in range(2):
        panel.append_result(path, row)
    assert panel.read_results(path) == [row, row]


def test_variants_that_no_longer_exist_are_the_last_in_the_table():
    rows = [
        {"set": "a", "steps": "800", "variant": variant, "seed": "0", "AP50": "0.5", "AP": "0.25"}
        for variant in ("former", "default", "earlier")
    ]
    assert [line.split(" | ")[0] for line in panel.table(rows)[2:]] == ["| default", "| earlier", "| former"]


def test_the_table_has_means(tmp_path, monkeypatch, capsys):
    values = {("a", "default", 0): 0.5, ("a", "default", 1): 0.7, ("b", "default", 0): 0.2, ("a", "original", 0): 0.4}
    with (tmp_path / "panel.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, panel.COLUMNS, restval="")
        writer.writeheader()
        for (name, variant, seed), ap50 in values.items():
            row = {"set": name, "steps": 800, "variant": variant, "seed": seed, "AP50": ap50, "AP": ap50 / 2}
            writer.writerow(row)
    monkeypatch.setattr(panel, "TABLE", tmp_path / "panel.md")
    panel.main(options("table", "--results", tmp_path / "panel.csv"))
    text = (tmp_path / "panel.md").read_text()
    assert "| default | 1 to 2 | 0.600 / 0.300 | 0.200 / 0.100 | 0.400 / 0.200 |" in text
    assert "| original | 1 | 0.400 / 0.200 | – | – |" in text


def test_run_needs_data_sets():
    with pytest.raises(InputError, match="--sets"):
        panel.main(options("run"))
