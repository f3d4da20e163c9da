"""The network rewritten for NCNN computes the same as the original."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.detector import Detector
from tests.helpers.random_detector import save_random_weights
from utils.export.graph import ActivatedDetector
from utils.export.ncnn_graph import optimize_for_ncnn, stage_order
from utils.runtimes.base import split_maps


@given(st.integers(1, 50), st.integers(0, 8))
def test_the_same_channels_pass_each_block(quarter, blocks):
    """Follow channels by name through a stage: each block changes the same ones in both networks."""
    channels = 4 * quarter
    half = channels // 2
    order = stage_order(channels, blocks)

    def written(block):
        return [(block, index) for index in range(half)]

    plain = [("down", index) for index in range(channels)]
    placed = [*(plain[index] for index in order.downsampled[0]),
              *(plain[half + index] for index in order.downsampled[1])]  # fmt: skip
    for block in range(blocks):
        mixed = [channel for pair in zip(placed[:half], placed[half:], strict=True) for channel in pair]
        passed, changed = mixed[:half], mixed[half:]
        assert changed == [plain[1::2][index] for index in order.inputs[block]]
        plain = plain[0::2] + written(block)
        placed = passed + [written(block)[index] for index in order.outputs[block]]
    assert placed == [plain[index] for index in order.stage]


@pytest.mark.parametrize("classes", [1, 80])
def test_the_outputs_are_equal(tmp_path, classes):
    detector = Detector(classes, 3).eval()
    detector.load_state_dict(torch.load(save_random_weights(tmp_path / "w.pth", classes), weights_only=True))
    other = optimize_for_ncnn(copy.deepcopy(detector))
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 10), (96, 160), mode="bicubic")
    with torch.inference_mode():
        maps = [ActivatedDetector(network)(images) for network in (detector, other)]
    assert all(values.std() > 0.05 for values in maps[0])
    for expected, found in zip(*maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    first, second = (split_maps([scale.numpy() for scale in values], 3) for values in maps)
    assert (first.stride16.classes.argmax(1) == second.stride16.classes.argmax(1)).all()
