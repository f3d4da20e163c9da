"""An order of channels in which ShuffleNetV2's halves are neighbours, so that no block has to gather them.

A block lets the channels of even index pass and changes the others; what it changed comes behind what passed. To take
every second channel is slow in NCNN, while to lay two halves like cards, one of each in turn, is quick, and cutting in
the middle then gives the first halves of both and the second halves of both. So each convolution writes its channels
in the order of how many blocks they will pass, those that pass most first: then the first half of everything passes, at
every block. Nothing but the order of weights changes.
"""

from collections import Counter
from typing import NamedTuple


class StageOrder(NamedTuple):
    """Of one stage; a list says for each place the number of the channel that comes there."""

    downsampled: list[list[int]]  # the halves that the first block puts together
    inputs: list[list[int]]  # a list a block: which of the channels that it changes
    outputs: list[list[int]]  # a list a block: which of the channels that it has changed
    stage: list[int]  # what leaves the stage


def stage_order(channels, blocks):
    """The order of channels in a stage.

    Args:
        channels: of the stage, a multiple of 4.
        blocks: that keep the shape.
    Returns:
        StageOrder.
    """
    half = channels // 2
    # A channel is (half, number): the two halves that the first block puts together, then what each block writes.
    halves = [[(number, channel) for channel in range(half)] for number in range(2 + blocks)]
    by_parity, known = _simulate(halves, blocks, lambda x: (x[0::2], x[1::2]))
    by_place, _ = _simulate(halves, blocks, _interleave_and_cut)
    ordered = [_matched(half, by_parity, by_place) for half in halves]
    _, found = _simulate(ordered, blocks, _interleave_and_cut)
    *inputs, stage = (
        [where.index(channel) for channel in channels] for where, channels in zip(known, found, strict=True)
    )
    outputs = [[channel for _, channel in half] for half in ordered]
    return StageOrder(outputs[:2], inputs, outputs[2:], stage)


def _matched(half, by_parity, by_place):
    """The channels of a half, those that pass most blocks in the places from which most are passed.

    Args:
        half: list of channels, which stand for places too.
        by_parity, by_place: {channel: blocks that it passes}, as in the network and from each place.
    """
    channels = sorted(half, key=by_parity.__getitem__, reverse=True)
    places = sorted(half, key=by_place.__getitem__, reverse=True)
    if any(by_parity[channel] != by_place[place] for channel, place in zip(channels, places, strict=True)):
        raise ValueError("expected as many channels to pass a block by their place as do by their number")
    at_place = dict(zip(places, channels, strict=True))
    return [at_place[place] for place in half]


def _simulate(halves, blocks, take):
    """{channel: blocks that it passes}, and a list a block of the channels that it changes, then all that are left."""
    x = halves[0] + halves[1]
    passes, changed = Counter(), []
    for block in range(blocks):
        passed, rest = take(x)
        passes.update(passed)
        changed.append(rest)
        x = passed + halves[2 + block]
    return passes, [*changed, x]


def _interleave_and_cut(x):
    half = len(x) // 2
    mixed = [channel for pair in zip(x[:half], x[half:], strict=True) for channel in pair]
    return mixed[:half], mixed[half:]
