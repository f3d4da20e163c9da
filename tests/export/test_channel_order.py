"""Channels in a new order: each block changes the same ones as before."""

from hypothesis import given
from hypothesis import strategies as st

from utils.export.channel_order import interleaved_order, sliced_order

STAGES = {"quarter": st.integers(1, 50), "blocks": st.integers(0, 8)}


def written(block, half):
    """The channels that a block writes, by name."""
    return [(block, index) for index in range(half)]


@given(**STAGES)
def test_interleaving_changes_the_same_channels(quarter, blocks):
    half = 2 * quarter
    order = interleaved_order(2 * half, blocks)
    plain = [*written("proj", half), *written("main", half)]
    placed = [
        *(plain[index] for index in order.downsampled[0]),
        *(plain[half + index] for index in order.downsampled[1]),
    ]
    for block in range(blocks):
        mixed = [channel for pair in zip(placed[:half], placed[half:], strict=True) for channel in pair]
        passed, changed = mixed[:half], mixed[half:]
        assert changed == [plain[1::2][index] for index in order.inputs[block]]
        plain = plain[0::2] + written(block, half)
        placed = passed + [written(block, half)[index] for index in order.outputs[block]]
    assert placed == [plain[index] for index in order.stage]


@given(**STAGES)
def test_slices_contain_the_same_channels(quarter, blocks):
    half = 2 * quarter
    order, sizes = sliced_order(2 * half, blocks)
    plain = [*written("proj", half), *written("main", half)]
    rest = [  # per half: the channels that no block has read yet
        [plain[index] for index in order.downsampled[0]],
        [plain[half + index] for index in order.downsampled[1]],
    ]

    def read(block):
        parts = [channels[: size[block]] for channels, size in zip(rest, sizes, strict=False)]
        for channels, part in zip(rest, parts, strict=True):
            del channels[: len(part)]
        return [channel for part in parts for channel in part]

    for block in range(blocks):
        assert read(block) == [plain[1::2][index] for index in order.inputs[block]]
        plain = plain[0::2] + written(block, half)
        rest.append([written(block, half)[index] for index in order.outputs[block]])
    assert read(blocks) == [plain[index] for index in order.stage]
    assert not any(rest)
