"""A rewritten network computes the same as the original."""

import pytest
import torch
from torch import nn

from model.detector import Detector
from tests.helpers.random_detector import save_random_weights
from utils.export.graph import ActivatedDetector
from utils.export.rewrite import interleave_channels, slice_channels
from utils.runtimes.exported import split_maps


@pytest.mark.parametrize("rewrite", [interleave_channels, slice_channels])
@pytest.mark.parametrize("classes", [1, 80])
def test_the_outputs_are_equal(tmp_path, classes, rewrite):
    detector = Detector(classes, 3).eval()
    detector.load_state_dict(torch.load(save_random_weights(tmp_path / "w.pth", classes), weights_only=True))
    other = rewrite(detector)
    torch.manual_seed(0)
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 10), (96, 160), mode="bicubic")
    with torch.inference_mode():
        maps = [ActivatedDetector(network)(images) for network in (detector, other)]
    assert all(values.std() > 0.05 for values in maps[0])
    for expected, found in zip(*maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    first, second = (split_maps([scale.numpy() for scale in values], 3) for values in maps)
    assert (first.stride16.classes.argmax(1) == second.stride16.classes.argmax(1)).all()


@pytest.mark.parametrize("rewrite", [interleave_channels, slice_channels])
def test_another_backbone_stays_as_it_is(rewrite):
    class Backbone(nn.Module):
        out_channels = (8, 16)

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 16, 16), nn.Conv2d(8, 16, 2, 2)

        def forward(self, images):
            first = self.first(images)
            return first, self.second(first)

    detector = Detector(2, 3, Backbone()).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected = detector(images)
        found = rewrite(detector)(images)
    torch.testing.assert_close(found, expected)
