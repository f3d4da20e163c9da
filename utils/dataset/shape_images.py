"""Pictures of drawn shapes with exact boxes: what the data set of `utils.dataset.shapes` consists of.

Every class is filled the same way, in the same colours, at the same sizes and angles, over the same backgrounds,
so that only the outline tells what a thing is. Around the shapes lie things of no class: letters, lines, blobs, arcs,
half discs and corners, painted as the shapes are.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

CLASS_NAMES = ("disc", "ring", "triangle", "rectangle", "star", "cross")
PICTURE_SIZE = 352  # pixels, both sides
SHAPE_SIZE = (12, 250)  # pixels, the longer side of a whole shape; log-uniform between
CLUTTER_SIZE = (16, 120)  # pixels, alike
MAX_SHAPES = 8  # in a picture
EMPTY_SHARE = 0.06  # of the pictures hold clutter only
COVERED = 0.25  # of a pixel, from which on it belongs to a shape; tips narrower than a pixel are seen too
MIN_VISIBLE = 0.7  # of a shape's area, after clipping at the border and what lies over it
MIN_SIDE = 8  # pixels, the shorter side of what is visible of a shape
MIN_CONTRAST = 50  # distance in BGR between a fill colour and the mean colour that it is painted over
PLACES_TRIED = 30  # for a shape before it is given up
SUPERSAMPLING = 4  # outlines are drawn this much larger and averaged down, for smooth edges

# None is like a class: no O, D, Q, 0 (rings), no X, T (crosses), no I (a line).
LETTERS = "ABEFGHJKMNPRSWZ2345679"


class Picture(NamedTuple):
    """One drawn picture of S × S pixels with n shapes, in the order in which they were painted."""

    image: np.ndarray  # [S, S, 3] uint8, BGR
    labels: np.ndarray  # [n, 5] float64, (class, cx, cy, w, h), fractions of the picture, around what is visible
    owners: np.ndarray  # [S, S] int16, which of the shapes covers the pixel, -1 where none does
    sizes: np.ndarray  # [n] float64, pixels, the longer side of the whole shape


class Stencil(NamedTuple):
    """How much of each pixel a drawn thing covers; it may reach beyond the picture."""

    coverage: np.ndarray  # [h, w] float32, 0…1
    x: int  # column of its left edge in the picture
    y: int


def draw_picture(rng):
    """Draw one picture; the same state of the np.random.Generator `rng` gives the same pixels."""
    canvas = _background(rng)
    for _ in range(rng.integers(3, 9)):
        _paint(rng, canvas, _move(rng, _clutter(rng)))

    owners = np.full((PICTURE_SIZE, PICTURE_SIZE), -1, np.int16)
    classes, areas, sizes = [], [], []
    count = 0 if rng.random() < EMPTY_SHARE else rng.integers(1, MAX_SHAPES + 1)
    for kind in rng.integers(len(CLASS_NAMES), size=count):
        size = _log_uniform(rng, SHAPE_SIZE)
        stencil = _rasterize(_transform(rng, _class_outline(rng, CLASS_NAMES[kind]), size, (0.5, 1)))
        area = np.count_nonzero(stencil.coverage > COVERED)
        for _ in range(PLACES_TRIED):
            stencil = _move(rng, stencil)
            candidate = _cover(owners, stencil, len(classes))
            if _all_visible(candidate, [*areas, area]):
                owners = candidate
                classes.append(kind)
                areas.append(area)
                sizes.append(size)
                _paint(rng, canvas, stencil)
                break

    # Wires before everything: too thin to change what is visible of a shape.
    for _ in range(rng.integers(0, 3)):
        _paint(rng, canvas, _move(rng, _line(rng, (1, 2))))
    return Picture(_develop(rng, canvas), _labels(owners, classes), owners, np.array(sizes))


def _log_uniform(rng, limits):
    low, high = limits
    return low * (high / low) ** rng.random()


# Outlines: lists of closed contours [m, 2] around the origin, of any scale; a contour inside another is a hole.


def _class_outline(rng, name):
    if name == "disc":
        return [_polar(np.ones(120))]
    if name == "ring":
        return [_polar(np.ones(120)), _polar(np.full(120, rng.uniform(0.45, 0.7)))]
    if name == "triangle":
        angles = np.radians(np.array([0, 120, 240]) + rng.uniform(-14, 14, 3))
        return [np.stack((np.cos(angles), np.sin(angles)), 1)]
    if name == "rectangle":
        return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)]
    if name == "star":
        radii = np.ones(2 * rng.integers(5, 7))
        radii[1::2] = rng.uniform(0.38, 0.5)
        return [_polar(radii)]
    arm = rng.uniform(0.22, 0.36)  # half the width of a cross's arm, of half its length
    corner = [(1, -arm), (1, arm), (arm, arm)]
    turns = [np.array(corner) @ np.array([(c, s), (-s, c)]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return [np.concatenate(turns)]


def _polar(radii):
    """Closed contour [m, 2] with these radii at equal angles."""
    angles = np.arange(len(radii)) * (2 * math.pi / len(radii))
    return np.stack((radii * np.cos(angles), radii * np.sin(angles)), 1)


def _blob_outline(rng):
    angles = np.arange(120) * (2 * math.pi / 120)
    waves = range(2, 6)
    radii = 1 + sum(rng.uniform(0.1, 0.3) * np.cos(n * angles + rng.uniform(0, 2 * math.pi)) for n in waves)
    return [_polar(np.maximum(radii, 0.2))]


def _arc_outline(rng):
    # A ring always shows more than this of its turn.
    angles = np.linspace(0, math.radians(rng.uniform(70, 200)), 40)
    rim = np.stack((np.cos(angles), np.sin(angles)), 1)
    return [np.concatenate((rim, rim[::-1] * rng.uniform(0.5, 0.8)))]


def _half_disc_outline(rng):
    angles = np.linspace(0, math.pi * rng.uniform(0.85, 1.05), 60)
    return [np.stack((np.cos(angles), np.sin(angles)), 1)]


def _corner_outline(rng):
    a, b = rng.uniform(0.25, 0.5, 2)
    return [np.array([(0, 0), (1, 0), (1, a), (b, a), (b, 1), (0, 1)], float)]


def _transform(rng, outline, size, stretch):
    """Squeeze one axis by a factor from the range `stretch`, turn by any angle, scale to a longer side of `size`."""
    turn = rng.uniform(0, 2 * math.pi)
    rotation = np.array([(math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))])
    matrix = rotation @ np.diag((1, rng.uniform(*stretch)))
    outline = [contour @ matrix.T for contour in outline]
    scale = size / np.ptp(np.concatenate(outline), 0).max()
    return [contour * scale + rng.random(2) for contour in outline]  # at any fraction of a pixel


# Stencils.


def _rasterize(outline):
    points = np.concatenate(outline)
    x, y = np.floor(points.min(0)).astype(int)
    width, height = np.ceil(points.max(0)).astype(int) - (x, y)
    large = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    bits = 4  # of the fixed-point numbers that OpenCV takes; its pixels' centres are at whole numbers
    contours = [((contour - (x, y)) * SUPERSAMPLING - 0.5) * 2**bits for contour in outline]
    cv2.fillPoly(large, [contour.round().astype(np.int32) for contour in contours], 255, shift=bits)
    return Stencil(_average_down(large), x, y)


def _average_down(large):
    height, width = (side // SUPERSAMPLING for side in large.shape)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _move(rng, stencil):
    """The stencil with its middle anywhere in the picture."""
    height, width = stencil.coverage.shape
    x, y = rng.integers(0, PICTURE_SIZE, 2) - (width // 2, height // 2)
    return stencil._replace(x=int(x), y=int(y))


def _clutter(rng):
    kind = rng.integers(6)
    if kind == 0:
        return _letter(rng)
    if kind == 1:
        return _line(rng, (1, 6))
    outline = (_blob_outline, _arc_outline, _half_disc_outline, _corner_outline)[kind - 2](rng)
    # Blobs are slim, lest one be taken for a disc.
    return _rasterize(_transform(rng, outline, _log_uniform(rng, CLUTTER_SIZE), (0.35, 0.6) if kind == 2 else (0.7, 1)))


def _line(rng, thickness):
    long, thick = rng.uniform(40, 300), rng.uniform(*thickness)
    return _rasterize(_transform(rng, [np.array([(0, 0), (long, 0), (long, thick), (0, thick)])], long, (1, 1)))


def _letter(rng):
    side = int(_log_uniform(rng, CLUTTER_SIZE)) * SUPERSAMPLING
    large = np.zeros((side, side), np.uint8)
    text, font = LETTERS[rng.integers(len(LETTERS))], cv2.FONT_HERSHEY_SIMPLEX
    thickness = max(1, side // int(rng.integers(8, 16)))
    scale = cv2.getFontScaleFromHeight(font, int(side * 0.6), thickness)
    (width, height), _ = cv2.getTextSize(text, font, scale, thickness)
    cv2.putText(large, text, ((side - width) // 2, (side + height) // 2), font, scale, 255, thickness)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-180, 180), 1)
    return Stencil(_average_down(cv2.warpAffine(large, turn, (side, side))), 0, 0)


def _clip(stencil):
    """(rows and columns of the picture, the part of the coverage that falls on them)."""
    height, width = stencil.coverage.shape
    top, left = max(stencil.y, 0), max(stencil.x, 0)
    bottom, right = min(stencil.y + height, PICTURE_SIZE), min(stencil.x + width, PICTURE_SIZE)
    inside = stencil.coverage[top - stencil.y : bottom - stencil.y, left - stencil.x : right - stencil.x]
    return (slice(top, bottom), slice(left, right)), inside


# Visibility and labels, both from the map of owners.


def _cover(owners, stencil, number):
    """The map of owners after shape `number` has been laid over it."""
    owners = owners.copy()
    area, coverage = _clip(stencil)
    owners[area][coverage > COVERED] = number
    return owners


def _all_visible(owners, areas):
    """Whether enough is seen of every shape; `areas` are the pixels of the whole shapes."""
    seen = np.bincount(owners[owners >= 0], minlength=len(areas))
    if (seen < MIN_VISIBLE * np.array(areas)).any():
        return False
    return all(min(x2 - x1, y2 - y1) >= MIN_SIDE for x1, y1, x2, y2 in _boxes(owners, len(areas)))


def _boxes(owners, count):
    """[(x1, y1, x2, y2)] in pixels around each shape's visible pixels."""
    boxes = []
    for number in range(count):
        x, y, width, height = cv2.boundingRect((owners == number).view(np.uint8))
        boxes.append((x, y, x + width, y + height))
    return boxes


def _labels(owners, classes):
    corners = np.array(_boxes(owners, len(classes)), float).reshape(-1, 4) / PICTURE_SIZE
    centres, sides = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    return np.concatenate((np.array(classes, float).reshape(-1, 1), centres, sides), 1)


# Colours. A canvas is [S, S, 3] float32 in grey levels.


def _background(rng):
    """A colour that wanders slowly and quickly over the picture, half the time with faint stripes."""
    canvas = np.empty((PICTURE_SIZE, PICTURE_SIZE, 3), np.float32)
    canvas[:] = rng.uniform(40, 215, 3)
    for cells, strength in ((3, 60), (12, 30), (60, 18)):
        waves = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
        # Sometimes a texture of brightness only, sometimes one of colour.
        if rng.random() < 0.5:
            waves[:] = waves[..., :1]
        waves *= rng.random() * strength
        canvas += cv2.resize(waves, (PICTURE_SIZE, PICTURE_SIZE), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        stripes = _stripes(rng, PICTURE_SIZE, PICTURE_SIZE, _log_uniform(rng, (6, 80)))
        canvas += (stripes - 0.5)[..., None] * rng.uniform(-35, 35, 3).astype(np.float32)
    return canvas


def _stripes(rng, height, width, period):
    """[height, width] float32 of smooth waves, 0…1, across any direction."""
    turn = rng.uniform(0, math.pi)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    phase = (columns * math.cos(turn) + rows * math.sin(turn)) * (2 * math.pi / period) + rng.uniform(0, 2 * math.pi)
    return (np.clip(np.sin(phase) * 2, -1, 1) + 1) / 2


def _paint(rng, canvas, stencil):
    """Fill the stencil with one colour, a shade from one to another, or stripes of two."""
    area, coverage = _clip(stencil)
    if not coverage.size:
        return
    height, width = coverage.shape
    under = canvas[area].mean((0, 1))
    first, second = _contrasting_colour(rng, under), _contrasting_colour(rng, under)
    fill = rng.integers(3)
    longer = max(height, width)
    period = longer * (rng.uniform(0.25, 0.6) if fill == 2 else rng.uniform(2, 3))
    mix = _stripes(rng, height, width, max(period, 4)) if fill else np.zeros((height, width), np.float32)
    colours = first + mix[..., None] * (second - first)
    canvas[area] += coverage[..., None] * (colours - canvas[area])


def _contrasting_colour(rng, under):
    """Any colour, drawn nearer to the colour `under` by a random share, as far as the least contrast allows."""
    while True:
        away = rng.uniform(0, 255, 3).astype(np.float32) - under
        distance = np.linalg.norm(away)
        if distance >= MIN_CONTRAST:
            return under + away * np.float32(_log_uniform(rng, (MIN_CONTRAST, distance)) / distance)


def _develop(rng, canvas):
    """From the canvas to a photo: contrast, brightness, a lens that is not quite sharp, noise of the sensor."""
    mean = canvas.mean()
    canvas = (canvas - mean) * rng.uniform(0.5, 1.1) + mean + rng.uniform(-30, 30)
    if rng.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 0.9))
    # Uniform noise looks like normal noise at this strength and is drawn several times faster.
    noise = rng.integers(-128, 128, canvas.shape, np.int8)
    canvas += noise * np.float32(rng.uniform(0, 14) / 128)
    return np.clip(canvas.round(), 0, 255).astype(np.uint8)
