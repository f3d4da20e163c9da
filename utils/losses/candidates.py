"""Which anchors of which cells can predict a box at all: `utils.losses.simota` chooses among them."""

import itertools
from typing import NamedTuple

import torch

from utils.config import STRIDES

# A decoded side is at most four times the anchor's; what is as much smaller is left to smaller anchors.
MAX_RATIO = 4.0


class Candidates(NamedTuple):
    """K candidates for each of M targets, K = 4 cells · A anchors · scales, of which `allowed` can be chosen.

    Anchors and cells are numbered over the whole batch in the order of `utils.postprocess.Predictions`: image, scale,
    row, column, anchor.
    """

    allowed: torch.Tensor  # [M, K] bool
    anchor: torch.Tensor  # [M, K]
    cell: torch.Tensor  # [M, K]
    origins: torch.Tensor  # [M, K, 2], (x, y) of the cell's corner in input pixels
    strides: torch.Tensor  # [K, 1], input pixels a cell
    anchor_sizes: torch.Tensor  # [K, 2], width and height in input pixels
    boxes: torch.Tensor  # [M, 4], the targets, (cx, cy, w, h) in input pixels
    labels: torch.Tensor  # [M]


def find_candidates(targets, anchors, image_size):
    """Candidates of a batch's targets.

    A decoded centre lies at most half a cell outside its cell, so two columns and two rows reach a given one. The box's
    sides have to be within MAX_RATIO of the anchor's; a box that no anchor fits so is left to the anchors that overlap
    it best, so that no box is without a candidate.

    Args:
        targets: [M, 6], (image, class, cx, cy, w, h), normalised.
        anchors: [2][A][2], width and height in input pixels, stride 16 first.
        image_size: (height, width) in pixels.
    Returns:
        Candidates. Their number depends on that of the targets alone, so nothing here waits for the device.
    """
    height, width = image_size
    device = targets.device
    size = torch.tensor((width, height), dtype=targets.dtype).to(device, non_blocking=True)
    centres, sizes = targets[:, 2:4] * size, targets[:, 4:6] * size
    grids = [(height // stride, width // stride) for stride in STRIDES]
    cells_an_image = sum(rows * columns for rows, columns in grids)
    image = targets[:, :1].long()
    parts = []
    first_cell = 0
    for scale_anchors, stride, (rows, columns) in zip(anchors, STRIDES, grids, strict=True):
        scale_anchors = torch.tensor(scale_anchors, dtype=targets.dtype).to(device, non_blocking=True)
        corner = torch.tensor(list(itertools.product((-1, 0), repeat=2)), dtype=targets.dtype)
        cells = (centres / stride + 0.5).floor()[:, None] + corner.to(device, non_blocking=True)  # [M, 4, 2]
        column, row = cells.unbind(2)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        column, row = column.clamp(0, columns - 1).long(), row.clamp(0, rows - 1).long()
        cell = image * cells_an_image + first_cell + row * columns + column  # [M, 4]
        first_cell += rows * columns

        count = len(scale_anchors)
        number = torch.arange(count, device=device)
        parts.append(
            (
                inside.repeat_interleave(count, 1),
                (cell[..., None] * count + number).flatten(1),
                cell.repeat_interleave(count, 1),
                torch.stack((column, row), 2).repeat_interleave(count, 1) * stride,
                torch.full((4 * count, 1), float(stride), device=device),
                scale_anchors.repeat(4, 1),
            )
        )
    inside, anchor, cell, origins = (torch.cat(column, 1) for column in list(zip(*parts, strict=True))[:4])
    strides, anchor_sizes = (torch.cat(column) for column in list(zip(*parts, strict=True))[4:])
    return Candidates(
        allowed=_allowed(inside, sizes, anchor_sizes),
        anchor=anchor,
        cell=cell,
        origins=origins.to(targets.dtype),
        strides=strides,
        anchor_sizes=anchor_sizes,
        boxes=torch.cat((centres, sizes), 1),
        labels=targets[:, 1].long(),
    )


def _allowed(inside, sizes, anchor_sizes):
    """[M, K] bool: cells in the image whose anchor's shape fits, or fits best."""
    ratio = sizes[:, None] / anchor_sizes  # [M, K, 2]
    fits = inside & (torch.maximum(ratio, 1 / ratio).amax(2) < MAX_RATIO)
    common = torch.minimum(sizes[:, None], anchor_sizes).prod(2)
    overlap = common / (sizes.prod(1)[:, None] + anchor_sizes.prod(1) - common)
    overlap = torch.where(inside, overlap, -1)
    nearest = inside & (overlap == overlap.amax(1, keepdim=True))
    return fits | (nearest & ~fits.any(1, keepdim=True))
