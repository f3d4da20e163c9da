"""Pictures of what a data set holds: classes, box sizes, where boxes lie, and images with their labels."""

import math
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from utils.dataset.images import read_image
from utils.errors import InputError
from utils.files import atomic_path
from utils.plots.anchors import save_anchor_plot
from utils.plots.draw import draw_detections
from utils.plots.fonts import class_labels, default_font, find_font

HEAT_CELLS = 22  # a side, as the finer scale has at 352 pixels
MOSAIC = 4  # images a side
TILE = 576  # pixels of the longer side of an image in the mosaic
CAPTION = 24  # pixels above it for its name
DPI = 110


def draw_plots(sets, config, folder, seed=0):
    """Draw everything.

    Args:
        sets: {set: SetFacts}.
        config: Config.
        folder: to write to.
        seed: of the choice of images for the mosaic.
    Returns:
        list of the files written.
    """
    first, facts = next(iter(sets.items()))
    path = folder / "classes.png"
    tags = class_labels(config.class_names)
    save_class_counts(path, {key: found.class_boxes for key, found in sets.items()}, tags)
    written = [path]
    if len(facts.sizes):
        written.append(folder / "box_sizes.png")
        title = f"{first}: {len(facts.sizes)} boxes at {config.width}×{config.height}"
        save_anchor_plot(written[-1], facts.sizes, np.array(config.anchors).reshape(-1, 2), title)
        written.append(folder / "box_centres.png")
        save_centres(written[-1], {key: found.index.labels for key, found in sets.items()})
    written.append(folder / "mosaic.png")
    save_mosaic(written[-1], facts.index, tags, seed)
    return written


def save_class_counts(path, counts, tags):
    """Bars of boxes a class, a colour a set; the axis is logarithmic, as classes differ by orders of magnitude.

    Args:
        path: file to write.
        counts: {set: [classes] boxes}.
        tags: a ClassLabel a class.
    """
    height = 0.8 / len(counts)
    figure = Figure(figsize=(9, 1.5 + 0.26 * max(len(tags), 4)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(tags))
    for number, (key, boxes) in enumerate(counts.items()):
        bars = axes.barh(rows + (number - (len(counts) - 1) / 2) * height, boxes, height, label=key)
        axes.bar_label(bars, fontsize=7, padding=2)
    axes.set_yticks(rows, [tag.text for tag in tags])
    for tick, tag in zip(axes.get_yticklabels(), tags, strict=True):
        tick.set_font(Path(tag.font))
    axes.set_ylim(len(tags) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, 3 * max(1, *(boxes.max() for boxes in counts.values())))  # room for the numbers
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("boxes")
    figure.legend(loc="outside upper right", ncols=len(counts))
    _save(figure, path)


def save_centres(path, labels):
    """Heat maps of box centres in the image, one a set.

    Args:
        path: file to write.
        labels: {set: list of [n, 5] labels}.
    """
    figure = Figure(figsize=(5.2 * len(labels), 4.6), layout="constrained")
    for axes, (key, rows) in zip(np.atleast_1d(figure.subplots(1, len(labels))), labels.items(), strict=True):
        centres = np.concatenate([np.empty((0, 5), np.float32), *rows])[:, 1:3]
        edges = np.linspace(0, 1, HEAT_CELLS + 1)
        heat = np.histogram2d(centres[:, 1], centres[:, 0], (edges, edges))[0]
        drawn = axes.imshow(heat, cmap="viridis", extent=(0, 1, 1, 0), interpolation="nearest")
        figure.colorbar(drawn, ax=axes, label="centres of boxes", shrink=0.85)
        axes.set_title(f"{key}: {len(centres)} boxes")
        axes.set_xlabel("x, fraction of the width")
        axes.set_ylabel("y, fraction of the height")
    _save(figure, path)


def save_mosaic(path, index, tags, seed=0):
    """Images with their labels, chosen at random among those that have any.

    Args:
        path: file to write.
        index: DatasetIndex.
        tags: a ClassLabel a class.
        seed: of the choice.
    """
    chosen = _choose_images(index, seed)
    side, step = MOSAIC * TILE, TILE + CAPTION
    rows = math.ceil(len(chosen) / MOSAIC)
    figure = Figure(figsize=(side / DPI, rows * step / DPI))
    for number, (position, image) in enumerate(chosen):
        tile = _draw_tile(image, index.labels[position], tags)
        left, below = number % MOSAIC * TILE, (rows - 1 - number // MOSAIC) * step
        # figimage puts pixels as they are, where imshow would resample the thin lines.
        figure.figimage(tile[..., ::-1], left + (TILE - tile.shape[1]) // 2, below + (TILE - tile.shape[0]) // 2)
        name = index.images[position].name
        font = Path(find_font(name) or default_font())
        x, y = (left + TILE / 2) / side, (below + TILE + CAPTION / 2) / (rows * step)
        figure.text(x, y, name, font=font, fontsize=10, ha="center", va="center")
    _save(figure, path)


def _choose_images(index, seed):
    """Up to MOSAIC² pairs (position, image [H, W, 3] uint8 BGR): those with labels first, unreadable ones left out."""
    order = np.random.default_rng(seed).permutation(len(index)).tolist()
    chosen = []
    for position in sorted(order, key=lambda position: len(index.labels[position]) == 0):
        try:
            chosen.append((position, read_image(index.images[position])))
        except InputError:
            continue
        if len(chosen) == MOSAIC**2:
            break
    return chosen


def _draw_tile(image, labels, tags):
    """An image at the mosaic's size with its labels, which have no scores."""
    height, width = image.shape[:2]
    factor = TILE / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    corners = np.hstack((labels[:, 1:3] - labels[:, 3:5] / 2, labels[:, 1:3] + labels[:, 3:5] / 2)) * np.tile(size, 2)
    unscored = np.full((len(labels), 1), math.nan)
    return draw_detections(image, np.hstack((corners, unscored, labels[:, :1])), tags)


def _save(figure, path):
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
