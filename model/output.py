"""What the network computes. Here, so that code can import it without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch


class ScaleOutput(NamedTuple):
    """Outputs of one scale with H×W cells, A anchors per cell, C classes.

    They are PyTorch tensors with logits, or NumPy arrays with probabilities from an exported model.
    """

    boxes: torch.Tensor | np.ndarray  # [N, 4·A, H, W]; channel 4·a + k is coordinate k of anchor a
    objectness: torch.Tensor | np.ndarray  # [N, A, H, W]
    classes: torch.Tensor | np.ndarray  # [N, C, H, W], shared by the anchors of a cell


class DetectorOutput(NamedTuple):
    """Outputs of both scales."""

    stride16: ScaleOutput
    stride32: ScaleOutput
