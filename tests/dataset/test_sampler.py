"""Batches: every image once per epoch, the same batches for any number of processes, exact resuming."""

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.dataset.sampler import TrainBatches, evaluation_batches
from utils.errors import InputError


@st.composite
def train_options(draw):
    """Arguments of TrainBatches with enough images for all parts."""
    subdivisions, processes = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    parts = subdivisions * processes
    return {
        "count": draw(st.integers(parts, 70)),
        "batch_size": draw(st.integers(parts, 40)),
        "subdivisions": subdivisions,
        "seed": draw(st.integers(0, 1000)),
        "processes": processes,
    }


def steps_of(batches, first_step=0, epoch=0):
    """The parts of one process in an epoch: one list per step."""
    batches.start(epoch, first_step)
    parts = list(batches)
    assert len(parts) == len(batches)
    return [parts[first : first + batches.subdivisions] for first in range(0, len(parts), batches.subdivisions)]


def all_processes(options, **start):
    """`steps_of` for every process."""
    ranks = range(options["processes"])
    return [steps_of(TrainBatches(**options, rank=rank), **start) for rank in ranks]


def flat(*lists):
    return [item for items in lists for item in items]


@given(train_options(), st.integers(0, 5))
def test_an_epoch_visits_each_image_once(options, epoch):
    seen = collections.Counter(flat(*flat(*flat(*all_processes(options, epoch=epoch)))))
    batches = TrainBatches(**options)
    count, size = options["count"], batches.batch_size
    assert size == min(options["batch_size"], count)
    assert set(seen.values()) == {1}
    assert set(seen) <= set(range(count))
    assert len(seen) == count - count % size
    assert batches.steps == len(seen) // size


@given(train_options())
def test_parts_are_not_empty_and_equally_large(options):
    for step in zip(*all_processes(options), strict=True):
        sizes = [len(part) for parts in step for part in parts]
        assert len(sizes) == options["subdivisions"] * options["processes"]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


@given(train_options(), st.integers(0, 5))
def test_all_parts_together_are_the_batch_of_one_process(options, epoch):
    alone = TrainBatches(**options | {"processes": 1, "subdivisions": 1})
    together = TrainBatches(**options)
    whole = steps_of(alone, epoch=epoch)
    shared_out = list(zip(*all_processes(options, epoch=epoch), strict=True))
    # One process with one part never skips a rest.
    assert len(shared_out) == together.steps <= len(whole)
    for step_index, (step, (batch,)) in enumerate(zip(shared_out, whole, strict=False)):
        assert sorted(flat(*flat(*step))) == sorted(batch)
        # Subdivisions are in order, and in each of them the processes.
        assert flat(*(part for parts in zip(*step, strict=True) for part in parts)) == batch
        assert together.batch_indices(epoch, step_index).tolist() == batch


@given(train_options(), st.data())
def test_resuming_at_a_step_gives_the_rest_of_the_epoch(options, data):
    batches = TrainBatches(**options, rank=options["processes"] - 1)
    epoch = data.draw(st.integers(0, 9))
    first = data.draw(st.integers(0, batches.steps))
    whole = steps_of(batches, epoch=epoch)
    # A resumed run is a new process without earlier epochs.
    resumed = TrainBatches(**options, rank=options["processes"] - 1)
    assert steps_of(resumed, first_step=first, epoch=epoch) == whole[first:]


@given(train_options())
def test_epochs_in_any_order(options):
    batches = TrainBatches(**options)
    epochs = [steps_of(TrainBatches(**options), epoch=epoch) for epoch in (0, 1, 2)]
    assert [steps_of(batches, epoch=epoch) for epoch in (2, 0, 1)] == [epochs[2], epochs[0], epochs[1]]
    for epoch in (0, 1):
        assert batches.batch_indices(epoch, 0).tolist() == TrainBatches(**options).batch_indices(epoch, 0).tolist()


@pytest.mark.parametrize("seed", [0, 1, 123_456, 1_700_000_000_000_000_000])
def test_each_epoch_and_seed_has_its_own_order(seed):
    orders = {tuple(flat(*flat(*steps_of(TrainBatches(60, 20, seed=seed), epoch=epoch)))) for epoch in range(30)}
    orders |= {tuple(flat(*flat(*steps_of(TrainBatches(60, 20, seed=seed + 1), epoch=epoch)))) for epoch in range(30)}
    assert len(orders) == 60
    # The groups of images differ too, not only their order.
    together = {frozenset(order[:20]) for order in orders}
    assert len(together) == 60


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (10, 4, [4, 4]),
        (12, 4, [4, 4, 4]),
        (3, 4, [3]),  # the only batch is never skipped
        (1, 1, [1]),
        (1, 64, [1]),
    ],
)
def test_an_incomplete_last_batch_is_skipped(count, batch_size, sizes):
    assert [len(part) for (part,) in steps_of(TrainBatches(count, batch_size))] == sizes


@pytest.mark.parametrize(
    ("count", "batch_size", "subdivisions", "processes", "got"),
    [(3, 64, 4, 1, 3), (3, 64, 2, 2, 3), (100, 3, 1, 4, 3), (0, 8, 1, 1, 0), (7, 64, 4, 2, 7)],
)
def test_too_few_images(count, batch_size, subdivisions, processes, got):
    with pytest.raises(InputError) as raised:
        TrainBatches(count, batch_size, subdivisions, processes=processes)
    assert f"at least {subdivisions * processes} images" in str(raised.value)
    assert str(raised.value).endswith(f"got {got}")


# Evaluation


@given(st.integers(0, 100), st.integers(1, 40), st.integers(1, 6))
def test_evaluation_batches_of_all_processes_contain_all_images_in_order(count, batch_size, processes):
    whole = evaluation_batches(count, batch_size)
    assert flat(*whole) == list(range(count))
    assert {len(batch) for batch in whole[:-1]} <= {batch_size}
    shares = [evaluation_batches(count, batch_size, rank, processes) for rank in range(processes)]
    # The results are concatenated in the order of the ranks.
    assert flat(*shares) == whole
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
