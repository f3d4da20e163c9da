"""Orders of the channels of a stage that need no selection of every second channel.

A ShuffleBlock passes the channels with even indices through, changes the others, and appends the changed ones.
Runtimes are slow at selecting every second channel. But a convolution can write its channels in any order, if the next
one reads them in that order: only the weights change. So the channels are sorted by how many blocks pass them through
until one changes them: ascending for `sliced_order`, descending for `interleaved_order`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

Channel = tuple[int, int]  # (half, index in the half), see `_plain`
Split = Callable[[list[Channel]], tuple[list[Channel], list[Channel]]]


class StageOrder(NamedTuple):
    """Orders of channels in a stage: each list has the old channel index for each new position."""

    downsampled: list[list[int]]  # outputs of both branches of the first block
    inputs: list[list[int]]  # per block: the channels that it changes
    outputs: list[list[int]]  # per block: the channels that it has changed
    stage: list[int]  # outputs of the stage


def interleaved_order(channels: int, blocks: int) -> StageOrder:
    """Compute the order in which each block changes the second half of its input with both halves interleaved.

    Args:
        channels: of the stage, a multiple of 4.
    """
    halves, passes, before = _plain(channels, blocks)
    sorted_halves = [sorted(half, key=passes.__getitem__, reverse=True) for half in halves]
    _, after = _follow(sorted_halves, _interleave_and_cut)
    return _compare(sorted_halves, before, after)


def sliced_order(channels: int, blocks: int) -> tuple[StageOrder, list[list[int]]]:
    """Compute the order in which each block changes one slice of each earlier half.

    Args:
        channels, blocks: see `interleaved_order`.

    Returns:
        (order, sizes): `sizes[half][block]` is how many channels of this half the block changes. The last size is how
        many leave the stage. Halves 0 and 1 are the outputs of the first block, half 2 + n those of ShuffleBlock n.
    """
    halves, passes, before = _plain(channels, blocks)
    sorted_halves = [sorted(half, key=passes.__getitem__) for half in halves]
    position = {channel: index for index, channel in enumerate(itertools.chain(*sorted_halves))}
    after = [sorted(changed, key=position.__getitem__) for changed in before]
    sizes = []
    for index, half in enumerate(halves):
        first_block = max(0, index - 1)  # that can change channels of this half
        changed_by = Counter(first_block + passes[channel] for channel in half)
        sizes.append([changed_by[block] for block in range(blocks + 1)])
    return _compare(sorted_halves, before, after), sizes


def _plain(channels: int, blocks: int) -> tuple[list[list[Channel]], Counter[Channel], list[list[Channel]]]:
    """Return the channels of each half, see `sliced_order`, and what `_follow` returns for a stage of ShuffleBlocks."""
    halves = [[(half, index) for index in range(channels // 2)] for half in range(2 + blocks)]
    return halves, *_follow(halves, lambda x: (x[0::2], x[1::2]))


def _follow(halves: list[list[Channel]], split: Split) -> tuple[Counter[Channel], list[list[Channel]]]:
    """Follow channels through the blocks of a stage; `split` returns (passed, changed) channels of a block.

    Returns:
        passes: how many blocks each channel passes through.
        changes: the changed channels of each block, then the outputs of the stage.
    """
    x = halves[0] + halves[1]
    passes, changes = Counter(), []
    for written in halves[2:]:
        passed, changed = split(x)
        passes.update(passed)
        changes.append(changed)
        x = passed + written
    return passes, [*changes, x]


def _interleave_and_cut(x: list[Channel]) -> tuple[list[Channel], list[Channel]]:
    half = len(x) // 2
    mixed = [channel for pair in zip(x[:half], x[half:], strict=True) for channel in pair]
    return mixed[:half], mixed[half:]


def _compare(halves: list[list[Channel]], before: list[list[Channel]], after: list[list[Channel]]) -> StageOrder:
    """Express the new order of all channels by old indices."""
    *inputs, stage = ([old.index(channel) for channel in new] for old, new in zip(before, after, strict=True))
    outputs = [[index for _, index in half] for half in halves]
    return StageOrder(outputs[:2], inputs, outputs[2:], stage)
