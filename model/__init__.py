"""The network. This file has its constants and its output, which can be imported without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

STRIDES = (16, 32)  # input pixels per cell, one entry per output scale
SCALES = len(STRIDES)
SIZE_MULTIPLE = STRIDES[-1]  # width and height of the input must be whole cells at the coarsest scale
MAX_SIZE = 8192  # pixels per side of an input; a larger one in a file is a mistake, and would fill the memory


class ScaleOutput(NamedTuple):
    """Outputs of one scale with H×W cells, A anchors per cell, C classes.

    Logits, or probabilities after `utils.export.graph.activate` or from an exported model.
    """

    boxes: torch.Tensor | np.ndarray  # [N, 4·A, H, W]; channel 4·a + k is coordinate k of anchor a
    objectness: torch.Tensor | np.ndarray  # [N, A, H, W]
    classes: torch.Tensor | np.ndarray  # [N, C, H, W], shared by the anchors of a cell


class DetectorOutput(NamedTuple):
    """Outputs of both scales."""

    stride16: ScaleOutput
    stride32: ScaleOutput
