"""The learning rate of each step."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.recipe import RECIPES, learning_rate

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
    # 10 steps an epoch: a warm-up of 50 steps, a tenth from epochs 20 and 27 on.
    assert learning_rate(ORIGINAL, 0.001, (20, 27), step, 10) == pytest.approx(expected, rel=1e-12)


def test_no_warm_up():
    recipe = dataclasses.replace(ORIGINAL, warmup_epochs=0)
    assert learning_rate(recipe, 0.5, (), 0, 10) == 0.5


def test_steps_in_any_order():
    rates = {learning_rate(ORIGINAL, 1, steps, 300, 10) for steps in ((20, 27), (27, 20))}
    assert len(rates) == 1


@given(step=st.integers(0, 10_000), an_epoch=st.integers(1, 500), base=st.floats(1e-6, 1))
def test_rate_is_never_above_its_base(step, an_epoch, base):
    assert 0 <= learning_rate(ORIGINAL, base, (3, 9), step, an_epoch) <= base


def test_original_recipe_is_the_original_one():
    assert (ORIGINAL.momentum, ORIGINAL.weight_decay, ORIGINAL.nesterov) == (0.949, 0.0005, False)
    assert (ORIGINAL.box_weight, ORIGINAL.objectness_weight, ORIGINAL.class_weight) == (3.2, 64, 32)
    assert ORIGINAL.scale_balance == (1.0, 0.4)
    assert ORIGINAL.augmentation == "contrast_brightness"
    assert not ORIGINAL.ema
