"""Draw boxes and class names on images of any size; they stay readable and inside the image."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.boxes import cxcywh_to_xyxy
from utils.plots.fonts import ClassLabel, default_font, load_font
from utils.text import shorten

Color = tuple[int, int, int]  # blue, green, red
Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels

# Line width and font size are fractions of the square root of the image's area: this also suits long, narrow images.
_LINE_WIDTH = 0.004
_MIN_LINE_WIDTH = 2  # pixels; the lines of small boxes are thinner
_FONT_SIZE = 0.026
_MIN_FONT_SIZE = 13  # pixels, in images with enough room
_MIN_READABLE_SIZE = 9  # pixels; if a tag of this size does not fit into the image, its text is shortened
_BOX_FONT_SIZE = 0.35  # at most this fraction of the square root of the box's area, for small boxes
_SMALLEST_FONT = 0.6  # of the font size of large boxes
_SMALL_BOX = 8  # a box is small for a tag if its area is less than this many times that of the tag

_PALETTE_LEVELS = 13  # per color channel
_PALETTE_PART = 100  # the palette grows by this many colors at once, so that it takes 2 ms for few classes
_RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_LIGHTNESS = (42, 92)  # CIELAB, 0 to 100
_MIN_CHROMA = 40  # CIELAB; colors with less look gray


def draw_detections(
    image: np.ndarray, detections: np.ndarray, labels: Sequence[ClassLabel] | None, line_width: int | None = None
) -> np.ndarray:
    """Draw a box and a tag for each detection on a copy of an image, the first detection on top.

    A tag never covers a small box or another tag. It is left out if there is no place for it at its box.

    Args:
        image: [H, W, 3] uint8, BGR.
        detections: [n, 6] (x1, y1, x2, y2, score, class id) in pixels, inside the image, best first. If a score is
            NaN, the tag only has the class name.
        labels: one per class; None: no tags.
        line_width: in pixels; None: depends on the size of the image. The lines of small boxes are thinner.

    Returns:
        [H, W, 3] uint8, BGR.
    """
    drawn = image.copy()
    scale = math.sqrt(image.shape[0] * image.shape[1])
    line_width = line_width or max(_MIN_LINE_WIDTH, round(_LINE_WIDTH * scale))
    rows = np.asarray(detections, dtype=float).reshape(-1, 6)
    for *box, _, class_id in reversed(rows.tolist()):
        _draw_box(drawn, box, class_color(int(class_id)), line_width)
    if labels is None:
        return drawn
    font_size = max(_MIN_FONT_SIZE, round(_FONT_SIZE * scale))
    for tag, (x1, y1, x2, y2), color in reversed(_place_tags(rows, labels, font_size, image.shape[1::-1])):
        drawn[y1:y2, x1:x2] = _render(tag, color)
    return drawn


def draw_labels(image: np.ndarray, rows: np.ndarray, labels: Sequence[ClassLabel]) -> np.ndarray:
    """Draw labels [n, 5] (class id, cx, cy, w, h), fractions of the image, as `draw_detections` does."""
    boxes = cxcywh_to_xyxy(rows[:, 1:]).clip(0, 1) * np.tile(image.shape[1::-1], 2)
    no_scores = np.full((len(rows), 1), math.nan)
    return draw_detections(image, np.hstack((boxes, no_scores, rows[:, :1])), labels)


def class_color(class_id: int) -> Color:
    """Return the color of a class, which is always the same and far from the colors of all smaller class ids.

    There are about a thousand colors; larger class ids repeat them.
    """
    position = class_id % len(_usable_colors()[0])
    palette_size = math.ceil((position + 1) / _PALETTE_PART) * _PALETTE_PART
    return _palette(palette_size)[position]


@functools.cache
def _palette(count: int) -> tuple[Color, ...]:
    """Order `count` colors so that each is as far as possible, in CIELAB, from all before it; the first is red."""
    colors, lab = _usable_colors()
    order, distance = [], np.full(len(lab), np.inf)
    chosen = int((lab[:, 1] + lab[:, 2]).argmax())
    for _ in range(min(count, len(colors))):
        order.append(tuple(colors[chosen].tolist()))
        distance = np.minimum(distance, np.square(lab - lab[chosen]).sum(1))
        chosen = int(distance.argmax())
    return tuple(order)


@functools.cache
def _usable_colors() -> tuple[np.ndarray, np.ndarray]:
    """Return the colors [n, 3] that are not too dark, too bright or gray, and their CIELAB values [n, 3]."""
    levels = np.linspace(0, 255, _PALETTE_LEVELS).astype(np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _to_lab(colors)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (chroma >= _MIN_CHROMA) & (lab[:, 0] >= _LIGHTNESS[0]) & (lab[:, 0] <= _LIGHTNESS[1])
    return colors[usable], lab[usable]


def _to_lab(colors: np.ndarray) -> np.ndarray:
    """Convert [n, 3] sRGB colors (blue, green, red) to CIELAB with the white point D65.

    Formulas and constants: IEC 61966-2-1 (sRGB) and CIE 15. OpenCV takes 0.15 s to compute tables for it.
    """
    linear = _linear(colors[:, ::-1] / 255)
    xyz = linear @ _RGB_TO_XYZ.T / _RGB_TO_XYZ.sum(1)  # relative to white
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29).T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def _linear(values: np.ndarray) -> np.ndarray:
    """Convert sRGB values, 0…1, to linear intensities."""
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)


@functools.cache
def contrast_color(color: Color) -> Color:
    """Return black or white, whichever is easier to read on `color`."""
    # Relative luminance and contrast ratio as defined by WCAG 2; white wins below 0.179.
    luminance = float(_linear(np.array(color[::-1]) / 255) @ _RGB_TO_XYZ[1])
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def place_tag(
    box: Sequence[float], size: tuple[int, int], image_size: tuple[int, int], obstacles: np.ndarray
) -> Box | None:
    """Choose the first place for a tag at its box, inside the image, that overlaps no obstacle.

    Args:
        box: (x1, y1, x2, y2) of the detection in pixels.
        size: (width, height) of the tag, at most those of the image.
        image_size: (width, height).
        obstacles: [m, 4] (x1, y1, x2, y2).

    Returns:
        The place; None if there is none.
    """
    x1, y1, x2, y2 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    width, height = size
    right, bottom = x2 - width, y2 - height
    corners = (
        *((x1, y1 - height), (right, y1 - height), (x1, y1), (right, y1)),  # above the box, inside at the top
        *((x1, y2), (right, y2), (x1, bottom), (right, bottom)),  # below, inside at the bottom
        *((x2, y1), (x1 - width, y1), (x2, bottom), (x1 - width, bottom)),  # next to the box
    )
    low, high = obstacles[:, :2], obstacles[:, 2:]
    for left, top in corners:
        left, top = max(0, min(left, image_size[0] - width)), max(0, min(top, image_size[1] - height))
        place = (left, top, left + width, top + height)
        if not ((low < place[2:]) & (high > place[:2])).all(1).any():
            return place
    return None


def small_boxes(boxes: np.ndarray, tag_size: tuple[int, int]) -> np.ndarray:
    """Select the boxes [n, 4] (x1, y1, x2, y2) of which a tag of (width, height) would hide a large part."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return boxes[areas < _SMALL_BOX * tag_size[0] * tag_size[1]]


def _place_tags(
    rows: np.ndarray, labels: Sequence[ClassLabel], font_size: int, image_size: tuple[int, int]
) -> list[tuple[_Tag, Box, Color]]:
    """Choose layout and place of the tags of detections [n, 6], best first; a second try uses a smaller font."""
    boxes = np.hstack((np.floor(rows[:, :2]), np.ceil(rows[:, 2:4])))
    smallest = max(_MIN_READABLE_SIZE, round(_SMALLEST_FONT * font_size))
    placed, taken = [], np.empty((len(rows), 4))
    for *box, score, class_id in rows.tolist():
        score_text = "" if math.isnan(score) else f" {score:.2f}"
        side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
        wanted = max(smallest, min(font_size, round(_BOX_FONT_SIZE * side)))
        for size in dict.fromkeys((wanted, smallest)):
            tag = _fit_tag(labels[int(class_id)], score_text, size, image_size)
            if tag is None:
                break
            tag_size = (tag.width, tag.height)
            obstacles = np.vstack((small_boxes(boxes, tag_size), taken[: len(placed)]))
            place = place_tag(box, tag_size, image_size, obstacles)
            if place is not None:
                taken[len(placed)] = place
                placed.append((tag, place, class_color(int(class_id))))
                break
    return placed


def _draw_box(image: np.ndarray, box: Sequence[float], color: Color, line_width: int) -> None:
    """Draw a box onto `image`: a line inside the box, and a thin rim of a contrasting color around the line."""
    x1, y1 = math.floor(box[0]), math.floor(box[1])
    x2, y2 = max(math.ceil(box[2]) - 1, x1), max(math.ceil(box[3]) - 1, y1)
    # A wide line would fill a small box.
    line_width = max(1, min(line_width, (min(x2 - x1, y2 - y1) + 1) // 5))
    # The rim keeps the line visible where the image has the color of the line.
    rim = max(1, line_width // 5) if line_width > 1 else 0
    # Nested rectangles, because OpenCV rounds the corners of a wide line.
    for inset in range(-rim, line_width):
        corners = (x1 + inset, y1 + inset), (x2 - inset, y2 - inset)
        cv2.rectangle(image, *corners, contrast_color(color) if inset < 0 else color)


class _Tag(NamedTuple):
    """A class name and a score with their layout, in pixels."""

    parts: tuple[tuple[str, ImageFont.FreeTypeFont, int], ...]  # text, font, x of its start
    width: int
    height: int
    baseline: int  # y of the text's baseline


@functools.lru_cache(maxsize=256)
def _render(tag: _Tag, color: Color) -> np.ndarray:
    """Render a tag: [height, width, 3] uint8, BGR."""
    # Pillow copies the channels in their order, so the colors stay BGR.
    image = Image.new("RGB", (tag.width, tag.height), color)
    draw = ImageDraw.Draw(image)
    for text, font, x in tag.parts:
        draw.text((x, tag.baseline), text, fill=contrast_color(color), font=font, anchor="ls")
    return np.asarray(image)


def _fit_tag(label: ClassLabel, score: str, font_size: int, image_size: tuple[int, int]) -> _Tag | None:
    """Lay out a tag, smaller or shortened if the image has no room; None if nothing readable fits."""
    smaller = ((label.text, size) for size in range(font_size, _MIN_READABLE_SIZE, -1))
    shorter = ((shorten(label.text, length), _MIN_READABLE_SIZE) for length in range(len(label.text), 0, -1))
    for text, size in itertools.chain(smaller, shorter):
        tag = _layout(text, label.font, score, size)
        if tag.width <= image_size[0] and tag.height <= image_size[1]:
            return tag
    return None


@functools.lru_cache(maxsize=4096)
def _layout(text: str, font: str, score: str, size: int) -> _Tag:
    padding = max(1, round(size * 0.2))
    parts, x, ascent, descent = [], padding, 0, 0
    # The score is in the default font, because fonts for one script may have no digits.
    for part, path in ((text, font), (score, default_font())):
        loaded = load_font(path, size)
        parts.append((part, loaded, x))
        x += math.ceil(loaded.getlength(part))
        # The height of the text, not of the font: some fonts reserve room for marks that the name does not have.
        box = loaded.getbbox(part + "dp", anchor="ls")
        ascent, descent = max(ascent, -box[1]), max(descent, box[3])
    return _Tag(tuple(parts), x + padding, math.ceil(ascent + descent) + 2 * padding, math.ceil(ascent) + padding)
