"""Priority of settings: command line, then .data file, then recipe."""

import json

import pytest

import train
from tests.helpers.dataset_files import write_data
from utils.errors import InputError
from utils.training.settings import EVALUATIONS, TrainOptions, describe, read_settings


def settings(data, *arguments):
    options = vars(train.build_parser().parse_args(["--data", str(data), *arguments]))
    given = {name: value for name, value in options.items() if value is not None}
    return read_settings(TrainOptions.from_dict(given))


def change(data, old, new):
    text = data.read_text(encoding="utf-8")
    assert old in text
    data.write_text(text.replace(old, new), encoding="utf-8")


def test_the_data_file_sets_what_the_command_line_does_not(tmp_path):
    found = settings(write_data(tmp_path))
    assert (found.epochs, found.batch_size, found.learning_rate) == (2, 2, 0.003)
    assert (found.weights, found.recipe_name, found.ema, found.eval_interval) == (None, "default", False, 1)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("--epochs", "70"), "epochs", 70),
        (("--batch-size", "6"), "batch_size", 6),
        (("--lr", "0.5"), "learning_rate", 0.5),
        (("--weights", "scratch"), "weights", "scratch"),
        (("--ema",), "ema", True),
        (("--no-ema",), "ema", False),
        (("--eval-interval", "4"), "eval_interval", 4),
    ],
)
def test_the_command_line_overrides_data_file_and_recipe(tmp_path, arguments, name, value):
    assert getattr(settings(write_data(tmp_path), *arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("--seed", "3"), "seed", 3),
        (("--workers", "0"), "workers", 0),
        (("--cache", "disk"), "cache", "disk"),
        (("--device", "cpu"), "device", "cpu"),
        (("--amp",), "amp", True),
        (("--no-amp",), "amp", False),
        (("--no-graph",), "graph", False),
        (("--patience", "9"), "patience", 9),
        (("--save-interval", "0"), "save_interval", 0),
        (("--output", "elsewhere"), "output", "elsewhere"),
        (("--freeze-backbone",), "freeze_backbone", True),
        (("--no-freeze-backbone",), "freeze_backbone", False),
    ],
)
def test_options_that_do_not_depend_on_the_data_file(tmp_path, arguments, name, value):
    assert getattr(settings(write_data(tmp_path), *arguments).options, name) == value


def test_options_of_another_version_in_a_checkpoint_are_ignored():
    assert TrainOptions.from_dict({"data": "a.data", "seed": 3, "compile": True}) == TrainOptions("a.data", seed=3)


def test_the_original_recipe_uses_the_rate_of_the_data_file(tmp_path):
    assert settings(write_data(tmp_path), "--recipe", "original").learning_rate == 0.001


@pytest.mark.parametrize("recipe", ["default", "original"])
def test_a_given_rate_is_used_unchanged(tmp_path, recipe):
    assert settings(write_data(tmp_path), "--recipe", recipe, "--lr", "0.01").learning_rate == 0.01


@pytest.mark.parametrize("epochs", [1, 9, 10, 11, 19, 31, 300])
def test_a_run_is_evaluated_at_least_ten_times(tmp_path, epochs):
    interval = settings(write_data(tmp_path), "--epochs", str(epochs)).eval_interval
    assert epochs // interval >= min(EVALUATIONS, epochs)


def test_batch_is_a_multiple_of_subdivisions(tmp_path):
    data = write_data(tmp_path)
    change(data, "subdivisions=1", "subdivisions=2")
    with pytest.raises(InputError, match=r"--batch-size 3: expected a multiple of subdivisions \(2 in .*small.data\)"):
        settings(data, "--batch-size", "3")


def test_the_description_has_plain_values(tmp_path):
    described = describe(settings(write_data(tmp_path), "--lr", "0.25"))
    assert json.loads(json.dumps(described))["learning_rate"] == 0.25
    assert described["recipe.momentum"] == 0.9
    assert described["width"] == 96
