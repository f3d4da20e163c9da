"""Detections drawn on an image: boxes and labels that stay readable and inside the image at any size."""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.plots.fonts import default_font

# Of the root of the image's area, which suits long images as well as square ones.
_LINE_WIDTH = 0.004
_SMALLEST_LINE = 2  # pixels, where the box has room
_FONT_SIZE = 0.026
_SMALLEST_FONT = 9  # pixels; smaller text cannot be read
_USUAL_SMALLEST_FONT = 13  # for images that have room
_LEAST_SHRINKAGE = 2 / 3  # of a font before its text is cut short instead
_ELLIPSIS = "…"

_PALETTE_STEPS = 13  # levels of each colour channel to choose from
_LIGHTNESS = (42, 92)  # in CIELAB, 0…100
_LEAST_CHROMA = 40  # in CIELAB; below, a colour looks like a shade of grey


def draw_detections(image, detections, labels):
    """A copy of an image with a box and a label for each detection, the better ones on top.

    Args:
        image: [H, W, 3] uint8, BGR.
        detections: [n, 6], (x1, y1, x2, y2, score, class) in pixels of the image and inside it, best first. What
            is no detection but a label of the data set has the score NaN, which is not written.
        labels: a ClassLabel a class.
    Returns:
        [H, W, 3] uint8, BGR.
    """
    drawn = image.copy()
    height, width = image.shape[:2]
    scale = math.sqrt(width * height)
    line = max(_SMALLEST_LINE, round(_LINE_WIDTH * scale))
    font_size = max(_USUAL_SMALLEST_FONT, round(_FONT_SIZE * scale))
    rows = np.asarray(detections, dtype=float).reshape(-1, 6).tolist()
    for *box, _, label in reversed(rows):
        _draw_box(drawn, box, class_colour(int(label)), line)
    tags, taken = [], np.empty((len(rows), 4), int)
    for *box, score, label in rows:
        text = "" if math.isnan(score) else f" {score:.2f}"
        tag = _fitting_tag(labels[int(label)], text, font_size, (width, height))
        if tag is not None:
            place = place_label(box, (tag.width, tag.height), (width, height), taken[: len(tags)])
            taken[len(tags)] = place
            tags.append((tag, place, class_colour(int(label))))
    for tag, (x1, y1, x2, y2), colour in reversed(tags):
        drawn[y1:y2, x1:x2] = _paint(tag, colour)
    return drawn


def class_colour(number):
    """Colour of a class, (blue, green, red): always the same, and far from those of the classes before it.

    There are about a thousand; then they repeat.
    """
    colours = _palette()
    return colours[number % len(colours)]


@functools.cache
def _palette():
    """Colours in an order in which each is as far as can be, in CIELAB, from all before it; red is the first."""
    levels = np.linspace(0, 255, _PALETTE_STEPS).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(1, -1, 3)
    lab = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)[0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (chroma >= _LEAST_CHROMA) & (lab[:, 0] >= _LIGHTNESS[0]) & (lab[:, 0] <= _LIGHTNESS[1])
    colours, lab = colours[0, usable], lab[usable]
    order, distance = [], np.full(len(lab), np.inf)
    chosen = int((lab[:, 1] + lab[:, 2]).argmax())
    for _ in range(len(colours)):
        order.append(tuple(colours[chosen].tolist()))
        distance = np.minimum(distance, np.square(lab - lab[chosen]).sum(1))
        chosen = int(distance.argmax())
    return tuple(order)


@functools.cache
def contrast_colour(colour):
    """Black or white, whichever is easier to read on `colour` (blue, green, red)."""
    # Relative luminance and contrast ratio as WCAG 2 defines them; white wins below 0.179.
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in colour]
    luminance = 0.0722 * linear[0] + 0.7152 * linear[1] + 0.2126 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def place_label(box, size, image_size, taken):
    """Where a label goes: at its box, inside the image, on as little of the labels before it as can be.

    Args:
        box: (x1, y1, x2, y2) of the detection in pixels.
        size: (width, height) of the label; not larger than the image.
        image_size: (width, height).
        taken: [m, 4], (x1, y1, x2, y2) of the labels that have their place.
    Returns:
        (x1, y1, x2, y2), whole pixels.
    """
    x1, y1, x2, y2 = math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3])
    width, height = size
    tops = (y1 - height, y1, y2, y2 - height)  # above the box, inside, below, inside at the bottom
    limits = (image_size[0] - width, image_size[1] - height)
    least, chosen = math.inf, None
    for top in tops:
        for left in (x1, x2 - width):
            corner = max(0, min(left, limits[0])), max(0, min(top, limits[1]))
            place = (*corner, corner[0] + width, corner[1] + height)
            covered = _covered(place, taken)
            if covered == 0:  # mostly the first place
                return place
            if covered < least:
                least, chosen = covered, place
    return chosen


def _covered(place, taken):
    """Pixels of a place, (x1, y1, x2, y2), that labels lie on; where several do, each counts."""
    if not len(taken):
        return 0
    sides = np.minimum(place[2:], taken[:, 2:]) - np.maximum(place[:2], taken[:, :2])
    return int(sides.clip(0).prod(1).sum())


class _Tag(NamedTuple):
    """A label that has its size."""

    parts: tuple  # of (text, font, x offset of the text's start)
    width: int
    height: int
    baseline: int  # below the label's top


def _draw_box(image, box, colour, line):
    """Draw the box's outline onto `image`, from the box's edge inwards."""
    x1, y1 = math.floor(box[0]), math.floor(box[1])
    x2, y2 = max(math.ceil(box[2]) - 1, x1), max(math.ceil(box[3]) - 1, y1)
    # A wide line would fill a small box.
    line = max(1, min(line, (min(x2 - x1, y2 - y1) + 1) // 5))
    # A rim keeps the line visible on what has the same colour.
    rim = max(1, line // 5) if line > 1 else 0
    # Rectangles one in the other: OpenCV rounds the corners of a wide line.
    for inset in range(-rim, line):
        corners = (x1 + inset, y1 + inset), (x2 - inset, y2 - inset)
        cv2.rectangle(image, *corners, contrast_colour(colour) if inset < 0 else colour)


@functools.lru_cache(maxsize=256)
def _paint(tag, colour):
    """[height, width, 3] uint8, BGR: the tag's text on its colour."""
    # PIL only moves bytes here, so it is given colours as BGR.
    patch = Image.new("RGB", (tag.width, tag.height), colour)
    painter = ImageDraw.Draw(patch)
    for text, font, offset in tag.parts:
        painter.text((offset, tag.baseline), text, fill=contrast_colour(colour), font=font, anchor="ls")
    return np.asarray(patch)


def _fitting_tag(label, score, font_size, image_size):
    """The label's tag, smaller or shorter where the image has no room; None where nothing readable fits."""
    for text, size in _tag_choices(label.text, font_size):
        tag = _measure(text, label.font, score, size)
        if tag.width <= image_size[0] and tag.height <= image_size[1]:
            return tag
    return None


def _tag_choices(text, font_size):
    """(text, font size) of a label, from the one wished for to the smallest and shortest."""
    smaller = max(_SMALLEST_FONT, round(font_size * _LEAST_SHRINKAGE))
    yield from ((text, size) for size in range(font_size, smaller - 1, -1))
    for size in (smaller, _SMALLEST_FONT):
        yield text, size
        yield from ((text[:length].rstrip() + _ELLIPSIS, size) for length in range(len(text) - 1, 0, -1))


@functools.lru_cache(maxsize=4096)
def _measure(text, path, score, size):
    # The score has its own font: that of the name may be for one script and without digits.
    parts, offset, ascent, descent = [], _padding(size), 0, 0
    for part, font in ((text, _font(path, size)), (score, _font(default_font(), size))):
        parts.append((part, font, offset))
        offset += math.ceil(font.getlength(part))
        # Of the text and not of the font: some fonts leave room for marks that no name has.
        box = font.getbbox(part + "dp", anchor="ls")
        ascent, descent = max(ascent, -box[1]), max(descent, box[3])
    padding = _padding(size)
    return _Tag(tuple(parts), offset + padding, math.ceil(ascent + descent) + 2 * padding, math.ceil(ascent) + padding)


def _padding(size):
    return max(1, round(size * 0.2))


@functools.lru_cache(maxsize=256)
def _font(path, size):
    return ImageFont.truetype(path, size)
