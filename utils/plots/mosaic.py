"""A grid of images with captions, in one image file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from utils.files import atomic_path
from utils.plots.fonts import default_font, drawable, load_font
from utils.text import shorten

_GAP = 6  # pixels around each tile
_CAPTION_HEIGHT = 28
_FONT_SIZE = 17
_JPEG_QUALITY = 92

TILE_SIDE = 416  # pixels of the longer side of an image in the mosaics of training and evaluation
COLUMNS = 4  # tiles per row


class Tile(NamedTuple):
    """One image of a mosaic."""

    image: np.ndarray  # [H, W, 3] uint8, BGR
    caption: str = ""


def fit_to_side(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image [H, W, 3] so that its longer side has `side` pixels."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def save_mosaic(path: Path, tiles: Sequence[Tile], columns: int, side: int) -> None:
    """Write tiles row by row; each row is as high as its tallest tile.

    Args:
        path: the suffix selects the format.
        tiles: at least one; no image is wider than `side` pixels.
        side: width of a column in pixels.
    """
    captions = _CAPTION_HEIGHT if any(tile.caption for tile in tiles) else 0
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    heights = [captions + max(len(tile.image) for tile in row) for row in rows]
    size = (len(rows[0]) * (side + _GAP) + _GAP, sum(heights) + len(rows) * _GAP + _GAP)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    font = load_font(default_font(), _FONT_SIZE)
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (image, caption) in enumerate(row):
            left = _GAP + column * (side + _GAP)
            middle = (left + side // 2, top + captions // 2)
            draw.text(middle, _fit_caption(caption, side), fill="black", font=font, anchor="mm")
            canvas.paste(Image.fromarray(image[..., ::-1]), (left + (side - image.shape[1]) // 2, top + captions))
        top += height + _GAP
    with atomic_path(path) as temporary:
        canvas.save(temporary, quality=_JPEG_QUALITY)


def _fit_caption(caption: str, width: int) -> str:
    """Shorten a caption until it is at most `width` pixels wide."""
    caption = drawable(" ".join(caption.split()))
    font = load_font(default_font(), _FONT_SIZE)
    lengths = range(len(caption), 0, -1)
    return next((text for n in lengths if font.getlength(text := shorten(caption, n)) <= width), "")
