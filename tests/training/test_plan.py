"""Batch size and epochs for the size of a data set."""

from hypothesis import given
from hypothesis import strategies as st

from utils.training.plan import MAX_EPOCHS, MIN_EPOCHS, STEPS, plan


@given(st.integers(1, 200_000))
def test_the_plan_of_any_size(images):
    schedule = plan(images)
    assert 1 <= schedule.batch_size <= images
    assert MIN_EPOCHS <= schedule.epochs <= MAX_EPOCHS
    assert 0 < schedule.steps[0] < schedule.steps[1] < schedule.epochs
    steps = schedule.epochs * (images // schedule.batch_size)
    if MIN_EPOCHS < schedule.epochs < MAX_EPOCHS:
        assert 0.8 * STEPS < steps < 1.25 * STEPS


def test_small_sets_get_more_epochs():
    epochs = [plan(images).epochs for images in (60, 300, 1000, 3000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] == MAX_EPOCHS
