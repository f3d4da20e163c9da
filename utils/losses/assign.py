"""Which anchors of which cells are responsible for which box: the original's assignment by ratio of sides.

A box matches an anchor when neither side differs from the anchor's by a factor of 2 or more. It is then the
task of that anchor in the box's own cell and in the nearer neighbour along each axis.
"""

from typing import NamedTuple

import torch

from utils.anchors import MATCH_RATIO

# In cells, from a box's centre to where its responsible cells are looked for: own, left, above, right, below.
OFFSETS = ((0.0, 0.0), (-0.5, 0.0), (0.0, -0.5), (0.5, 0.0), (0.0, 0.5))


class Assignment(NamedTuple):
    """Candidates of one scale, K = 5 offsets · A anchors · M targets, of which `matched` are real.

    The number of candidates depends on the number of targets alone, so nothing here waits for the device.
    """

    matched: torch.Tensor  # [K] bool
    image: torch.Tensor  # [K]
    anchor: torch.Tensor  # [K]
    row: torch.Tensor  # [K]
    column: torch.Tensor  # [K]
    label: torch.Tensor  # [K]
    boxes: torch.Tensor  # [K, 4], (cx, cy, w, h) in cells, the centre relative to the responsible cell
    anchor_sizes: torch.Tensor  # [K, 2], width and height in cells


def assign(targets, anchors, stride, grid):
    """Assign the targets of a batch at one scale.

    Args:
        targets: [M, 6], (image, class, cx, cy, w, h), normalised.
        anchors: [A, 2], width and height in input pixels.
        stride: input pixels a cell.
        grid: (rows, columns) of the scale.
    Returns:
        Assignment.
    """
    rows, columns = grid
    size = _constant((columns, rows), targets)
    anchors = _constant(anchors, targets) / stride
    offsets = _constant(OFFSETS, targets)
    centres, sizes = targets[:, 2:4] * size, targets[:, 4:6] * size

    ratio = sizes / anchors[:, None]  # [A, M, 2]
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < MATCH_RATIO

    near_start = (centres % 1 < 0.5) & (centres > 1)  # [M, 2]: left, above
    from_end = size - centres
    near_end = (from_end % 1 < 0.5) & (from_end > 1)  # right, below
    own = torch.ones_like(near_start[:, :1])
    reached = torch.cat((own, near_start, near_end), 1).T  # [5, M]

    matched = reached[:, None] & fits  # [5, A, M]
    cells = (centres + offsets[:, None]).floor().clamp(min=0).minimum(size - 1)  # [5, M, 2]
    relative = centres - cells
    cells = cells.long()

    shape = matched.shape

    def candidates(tensor):
        return tensor.expand(*shape, *tensor.shape[3:]).flatten(0, 2)

    boxes = torch.cat((relative, sizes.expand_as(relative)), 2)
    return Assignment(
        matched=matched.flatten(),
        image=candidates(targets[None, None, :, 0].long()),
        anchor=candidates(torch.arange(len(anchors), device=targets.device)[None, :, None]),
        row=candidates(cells[:, None, :, 1]),
        column=candidates(cells[:, None, :, 0]),
        label=candidates(targets[None, None, :, 1].long()),
        boxes=candidates(boxes[:, None]),
        anchor_sizes=candidates(anchors[None, :, None]),
    )


def _constant(values, like):
    """A tensor of `like`'s type and device; unlike new_tensor it does not wait until a CUDA device has it."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
