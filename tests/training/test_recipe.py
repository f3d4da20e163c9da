"""The learning rate of each step."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.dataset.augment import AUGMENTATIONS
from utils.losses import build_loss
from utils.training.optimizer import learning_rate_at
from utils.training.recipe import DEFAULT, RECIPES

ORIGINAL = RECIPES["original"]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0),
        (1, 0.001 * (1 / 50) ** 4),
        (25, 0.001 / 16),
        (50, 0.001),
        (51, 0.001),
        (199, 0.001),
        (200, 0.0001),
        (269, 0.0001),
        (270, 0.00001),
        (309, 0.00001),
    ],
)
def test_original_schedule(step, expected):
    # 10 steps per epoch: a warm-up of 50 steps; the rate is divided by 10 at epochs 20 and 27.
    assert learning_rate_at(step, ORIGINAL, 0.001, (20, 27), 10, 31) == pytest.approx(expected, rel=1e-12)


def test_no_warm_up():
    recipe = dataclasses.replace(ORIGINAL, warmup_epochs=0)
    assert learning_rate_at(0, recipe, 0.5, (), 10, 31) == 0.5


def test_milestones_in_any_order():
    rates = {learning_rate_at(300, ORIGINAL, 1, steps, 10, 31) for steps in ((20, 27), (27, 20))}
    assert len(rates) == 1


@pytest.mark.parametrize("name", RECIPES)
@given(step=st.integers(0, 10_000), per_epoch=st.integers(1, 500), base=st.floats(1e-6, 1), epochs=st.integers(1, 300))
def test_rate_is_never_above_its_base(name, step, per_epoch, base, epochs):
    assert 0 <= learning_rate_at(step, RECIPES[name], base, (3, 9), per_epoch, epochs) <= base


def test_default_schedule():
    """The rate grows linearly in the first 5 % of the run, then follows half a cosine to 0."""
    rates = [learning_rate_at(step, RECIPES[DEFAULT], 2.0, (3, 9), 10, 20) for step in range(201)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(1)
    assert rates[10] == max(rates) == pytest.approx(2)
    assert rates[105] == pytest.approx(1)
    assert rates[200] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_values_of_the_original_recipe():
    assert (ORIGINAL.momentum, ORIGINAL.weight_decay, ORIGINAL.decay_all) == (0.949, 0.0005, True)
    assert (ORIGINAL.box_weight, ORIGINAL.objectness_weight, ORIGINAL.class_weight) == (3.2, 64, 32)
    assert ORIGINAL.scale_balance == (1.0, 0.4)
    assert ORIGINAL.augmentation == ORIGINAL.last_augmentation == "contrast_brightness"
    assert (ORIGINAL.optimizer, ORIGINAL.loss, ORIGINAL.schedule) == ("sgd", "original", "steps")
    assert (ORIGINAL.rate_factor, ORIGINAL.objectness_prior, ORIGINAL.ema) == (1.0, None, False)


@pytest.mark.parametrize("name", RECIPES)
def test_the_names_in_recipes_exist(name):
    recipe = RECIPES[name]
    assert {recipe.augmentation, recipe.last_augmentation} <= AUGMENTATIONS.keys()
    assert build_loss(recipe, (((10.0, 10.0),), ((30.0, 30.0),)))
    assert recipe.optimizer in ("sgd", "adamw")
    assert recipe.schedule in ("steps", "cosine")
