"""benchmarks/ablation.py: valid variants, a table with the metrics of the stored runs, and the times of steps."""

import csv
import dataclasses
import json

import pytest

from benchmarks import ablation
from tests.helpers.training_files import write_shapes
from utils.errors import InputError
from utils.training.recipe import RECIPES, Recipe

FIELDS = {field.name for field in dataclasses.fields(Recipe)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A temporary folder for the script's files."""
    monkeypatch.setattr(ablation, "RUNS", tmp_path / "kept")
    monkeypatch.setattr(ablation, "STEPS", tmp_path / "kept" / "steps.json")
    monkeypatch.setattr(ablation, "TABLE", tmp_path / "ablation.md")
    return tmp_path


def options(*arguments):
    return ablation.build_parser().parse_args(arguments)


@pytest.mark.parametrize("variant", ablation.VARIANTS)
def test_variants_change_fields_of_a_recipe(variant):
    start, changes = ablation.VARIANTS[variant]
    assert changes.keys() <= FIELDS
    recipe = RECIPES[start]
    assert (variant == start) == (dataclasses.replace(recipe, **changes) == recipe)


def write_run(folder, variant, seed, ap50, weights=None, epochs=20):
    folder.mkdir(parents=True)
    settings = {"model_name": "mask", "epochs": epochs, "recipe_name": variant, "seed": seed, "weights": weights}
    content = {"settings": settings, "versions": {"torch": "9.9", "platform": "Linux"}}
    (folder / "args.json").write_text(json.dumps(content), encoding="utf-8")
    with (folder / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "AP50", "AP", "original_AP", "F1"])
        writer.writeheader()
        # The table has the last epoch, not the best one.
        for epoch, value in ((epochs - 1, 0.9), (epochs, ap50)):
            writer.writerow({"epoch": epoch, "AP50": value, "AP": 0.1, "original_AP": 0.2, "F1": 0.3})


def test_table(place):
    write_run(place / "kept" / "a", "default", 0, 0.5)
    write_run(place / "kept" / "b", "default", 1, 0.6)
    write_run(place / "kept" / "c", "original", 0, 0.25)
    write_run(place / "kept" / "d", "default", 0, 0.7, "modelzoo/coco.pth")
    write_run(place / "kept" / "e", "default", 0, 0.8, epochs=61)
    steps = {"milliseconds": {"original": 200.0, "default": 250.0}}
    (place / "kept" / "steps.json").write_text(json.dumps(steps), encoding="utf-8")
    ablation.main(options("table"))
    lines = (place / "ablation.md").read_text(encoding="utf-8").split("\n")
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == [
        "## mask, 20 epochs from backbone.pth",
        "## mask, 20 epochs from coco.pth",
        "## mask, 61 epochs from backbone.pth",
    ]
    first = lines.index(headings[0])
    assert lines[first + 4] == "| original | 0 | 0.2500 | 0.1000 | 0.2000 | 0.3000 | 1.00 |"
    assert lines[first + 5].startswith("| default | 0, 1 | 0.5500 (0.5000 to 0.6000) | 0.1000 (0.1000 to 0.1000) |")
    assert lines[first + 5].endswith("| 1.25 |")
    assert "torch 9.9, Linux" in lines[-2]


def test_time_needs_data(place):
    with pytest.raises(InputError, match="--data"):
        ablation.main(options("time"))


def test_the_steps_of_all_variants_are_timed(place, monkeypatch):
    monkeypatch.setattr(ablation, "ROUNDS", 1)
    variants = ("original", "rate 0.006, assignment by ratio")
    monkeypatch.setattr(ablation, "VARIANTS", {name: ablation.VARIANTS[name] for name in variants})
    ablation.main(options("time", "--data", str(write_shapes(place, train=8, val=4))))
    steps = json.loads((place / "kept" / "steps.json").read_text(encoding="utf-8"))
    assert list(steps["milliseconds"]) == list(variants)
    assert min(steps["milliseconds"].values()) > 0
