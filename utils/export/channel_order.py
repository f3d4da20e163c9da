"""Channel orders with which no block of a stage has to select every second channel.

A ShuffleBlock passes the channels with even indices through, changes the others, and appends the changed ones.
Runtimes are slow at selecting every second channel. But a convolution can write its channels in any order, if the next
one reads them in that order: only the weights change. So the channels are sorted by how many blocks pass them through
until one changes them: ascending for `sliced_order`, descending for `interleaved_order`.

In this module, a channel is a number: the outputs of a stage's convolutions, in their original order. They come in
halves: halves 0 and 1 are the outputs of the first block, half 2 + n those of ShuffleBlock n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Split = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class StageOrder(NamedTuple):
    """Orders of channels in a stage: each array has the old channel index for each new position."""

    downsampled: np.ndarray  # [2, C/2] outputs of both branches of the first block
    inputs: list[np.ndarray]  # per block: the channels that it changes
    outputs: np.ndarray  # [blocks, C/2] per block: the channels that it has changed
    stage: np.ndarray  # outputs of the stage


def interleaved_order(channels: int, blocks: int) -> StageOrder:
    """Compute the order in which each block changes the second half of its input with both halves interleaved.

    Args:
        channels: of the stage, a multiple of 4.
    """
    halves, passes, before = _original(channels, blocks)
    halves = np.stack([half[np.argsort(-passes[half], kind="stable")] for half in halves])
    _, after = _follow(halves, lambda x: x.reshape(2, -1).T.reshape(2, -1))
    return _compare(halves, before, after)


def sliced_order(channels: int, blocks: int) -> tuple[StageOrder, list[list[int]]]:
    """Compute the order in which each block changes one slice of each earlier half.

    Args:
        channels, blocks: see `interleaved_order`.

    Returns:
        (order, sizes): `sizes[half][block]` is how many channels of this half the block changes. The last size is how
        many leave the stage.
    """
    halves, passes, before = _original(channels, blocks)
    halves = np.stack([half[np.argsort(passes[half], kind="stable")] for half in halves])
    position = np.argsort(halves.ravel())
    after = [changed[np.argsort(position[changed])] for changed in before]
    # ShuffleBlock n + 1 is the first that can change channels of half 2 + n.
    changed_by = [max(0, index - 1) + passes[half] for index, half in enumerate(halves)]
    return _compare(halves, before, after), [np.bincount(found, minlength=blocks + 1).tolist() for found in changed_by]


def _original(channels: int, blocks: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Return the channels of each half [2 + blocks, C/2], and what `_follow` returns for a stage of ShuffleBlocks."""
    halves = np.arange((2 + blocks) * channels // 2).reshape(2 + blocks, -1)
    return halves, *_follow(halves, lambda x: (x[0::2], x[1::2]))


def _follow(halves: np.ndarray, split: Split) -> tuple[np.ndarray, list[np.ndarray]]:
    """Follow channels through the blocks of a stage; `split` returns (passed, changed) channels of a block.

    Returns:
        passes: how many blocks each channel passes through.
        changes: the changed channels of each block, then the outputs of the stage.
    """
    x = halves[:2].ravel()
    passes, changes = np.zeros(halves.size, int), []
    for written in halves[2:]:
        passed, changed = split(x)
        passes[passed] += 1
        changes.append(changed)
        x = np.concatenate((passed, written))
    return passes, [*changes, x]


def _compare(halves: np.ndarray, before: list[np.ndarray], after: list[np.ndarray]) -> StageOrder:
    """Express the new order of all channels by old indices."""
    *inputs, stage = (np.nonzero(new[:, None] == old)[1] for old, new in zip(before, after, strict=True))
    outputs = halves % halves.shape[1]
    return StageOrder(outputs[:2], inputs, outputs[2:], stage)
