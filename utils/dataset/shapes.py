"""The synthetic data set: six classes of drawn shapes with exact boxes.

`utils.dataset.lists.list_images` draws it into `data/shapes/` on first use; `data/shapes.data` uses it. All classes
have the same colors, sizes and angles; only the outline distinguishes them. The clutter around them (letters, bent
lines, arcs, half discs) is painted in the same way and has no labels.
"""

import math
import shutil
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from tqdm import tqdm

from utils.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "data" / "shapes"
SEED = 0
COUNTS = {"train": 400, "val": 100}  # images

CLASS_NAMES = ("disc", "ring", "triangle", "rectangle", "star", "cross")
IMAGE_SIZE = 352  # pixels, width and height
SHAPE_SIZES = (12, 250)  # pixels, longer side; log-uniform
CLUTTER_SIZES = (16, 120)  # pixels; log-uniform
MAX_SHAPES = 8  # per image
EMPTY_SHARE = 0.06  # of the images have no shapes
MIN_VISIBLE = 0.7  # of a shape's area; the rest is outside the image or covered by other shapes
MIN_SIDE = 8  # pixels, shorter side of a box
MIN_CONTRAST = 50  # distance in BGR between a color and the mean color under it
ATTEMPTS = 30  # random positions tried for a shape
LETTERS = "ABEFGHJKMNPRSWZ2345679"  # none looks like a class: no O (ring), no X or T (cross)


def draw_missing_set(path: str | Path) -> None:
    """Draw the synthetic set if `path` is one of its two lists and its folder does not exist.

    Raises:
        InputError: the folder exists without this list, or cannot be written.
    """
    path = Path(path).resolve()
    if path.parent != FOLDER or path.suffix != ".txt" or path.stem not in COUNTS:
        return
    if not FOLDER.exists():
        make_shapes(FOLDER)
    if not path.exists():
        raise InputError(
            f"{path}: expected this list, found none; remove the folder {FOLDER} to draw the data set again"
        )


def make_shapes(folder: str | Path, seed: int = SEED, train: int = COUNTS["train"], val: int = COUNTS["val"]) -> bool:
    """Draw a synthetic set into a new folder, in darknet format.

    Image i of a list depends only on i and the seed, not on the number of images. The set is drawn into a temporary
    folder, which is renamed at the end, so an interrupted call leaves no incomplete set.

    Args:
        folder: must not exist yet.
        train, val: images per list.

    Returns:
        False if another process has created `folder` in the meantime.

    Raises:
        InputError: the folder exists or cannot be created.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it or choose another folder")
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    paths, seeds = [], []
    try:
        for list_id, (name, count) in enumerate((("train", train), ("val", val))):
            (temporary / name).mkdir(parents=True)
            files = [f"{name}/{index:05}.jpg" for index in range(count)]
            (temporary / f"{name}.txt").write_text("".join(f"{file}\n" for file in files), encoding="utf-8")
            paths += [temporary / file for file in files]
            seeds += [(seed, list_id, index) for index in range(count)]
        print(f"drawing {train + val} images of shapes into {folder} (seed {seed})", file=sys.stderr)
        with ThreadPoolExecutor() as pool:  # OpenCV and NumPy release the GIL while they draw
            list(tqdm(pool.map(_write_image, paths, seeds), "drawing", len(paths), unit="image", disable=None))
        temporary.rename(folder)
        return True
    except OSError as error:
        if folder.exists():  # another process has created it
            return False
        raise InputError(f"{folder}: cannot write there: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_image(path: Path, seed: tuple[int, ...]) -> None:
    image, labels = draw_image(np.random.default_rng(seed))
    # cv2.imwrite cannot write to every path, and does not report why it failed.
    path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    lines = [f"{int(class_id)} " + " ".join(f"{value:.6f}" for value in box) for class_id, *box in labels]
    path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def draw_image(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image; generators in the same state draw the same image.

    Returns:
        image: [352, 352, 3] uint8, BGR.
        labels: [n, 5] float64, (class, cx, cy, w, h) as fractions of the image, around the visible pixels.
    """
    image = _background(rng)
    for _ in range(rng.integers(3, 9)):
        _paint(rng, image, _clutter(rng))
    class_ids, areas, visible = [], [], []
    count = 0 if rng.random() < EMPTY_SHARE else rng.integers(1, MAX_SHAPES + 1)
    for class_id in rng.integers(len(CLASS_NAMES), size=count):
        contours = _shape(rng, CLASS_NAMES[class_id])
        area = cv2.contourArea(contours[0]) - sum(map(cv2.contourArea, contours[1:]))
        for _ in range(ATTEMPTS):
            mask = _fill(contours, rng.integers(0, IMAGE_SIZE, 2))
            # The new shape covers parts of the earlier ones.
            masks = [*(earlier & (mask < 128) for earlier in visible), mask >= 128]
            if all(map(_is_visible, masks, [*areas, area])):
                visible = masks
                areas.append(area)
                class_ids.append(class_id)
                _paint(rng, image, mask)
                break
    boxes = np.array([_bounding_box(mask) for mask in visible], float).reshape(-1, 4)
    boxes[:, :2] += boxes[:, 2:] / 2
    return _photograph(rng, image), np.column_stack((class_ids, boxes / IMAGE_SIZE))


def _shape(rng: Generator, name: str) -> list[np.ndarray]:
    """Contours [m, 2] float32 of a shape, in pixels around the origin; a second contour is a hole."""
    hole, inner, arm = rng.uniform((0.45, 0.38, 0.22), (0.7, 0.5, 0.36))
    if name == "rectangle":
        contours = [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])]
    elif name == "cross":
        quarter = np.array([(1, -arm), (1, arm), (arm, arm)])
        quarters = [quarter @ [(c, s), (-s, c)] for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        contours = [np.concatenate(quarters)]
    else:
        radii = {"triangle": np.ones(3), "star": np.tile((1, inner), rng.integers(5, 7))}.get(name, np.ones(90))
        angles = np.arange(len(radii)) * (2 * math.pi / len(radii))
        contours = [np.column_stack((radii * np.cos(angles), radii * np.sin(angles)))]
        if name == "ring":
            contours.append(contours[0] * hole)
    angle, squeeze = rng.uniform((0, 0.5), (2 * math.pi, 1))
    rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
    contours = [contour * (1, squeeze) @ rotation for contour in contours]
    scale = _log_uniform(rng, *SHAPE_SIZES) / np.ptp(contours[0], 0).max()
    return [np.float32(contour * scale) for contour in contours]


def _fill(contours: list[np.ndarray], center: np.ndarray) -> np.ndarray:
    """Mask [352, 352] uint8 of filled contours, 255 inside, with smooth edges."""
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    bits = 4  # after the binary point of a coordinate
    points = [((contour + center) * 2**bits).round().astype(np.int32) for contour in contours]
    return cv2.fillPoly(mask, points, 255, cv2.LINE_AA, bits)


def _clutter(rng: Generator) -> np.ndarray:
    """Mask [352, 352] uint8 of a letter, bent line, arc or half disc."""
    mask = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    kind = rng.choice(("letter", "line", "arc", "half disc"))
    size = _log_uniform(rng, *CLUTTER_SIZES)
    thickness = max(1, round(size / rng.uniform(6, 15)))
    position = rng.integers(0, IMAGE_SIZE, 2).tolist()
    if kind == "letter":
        letter = LETTERS[rng.integers(len(LETTERS))]
        cv2.putText(mask, letter, position, cv2.FONT_HERSHEY_SIMPLEX, size / 30, 255, thickness, cv2.LINE_AA)
    elif kind == "line":
        points = position + rng.uniform(-size, size, (3, 2))
        cv2.polylines(mask, [points.astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
    else:
        axes = round(size / 2), round(size / 2 * rng.uniform(0.7, 1))
        sweep, thickness = (180, cv2.FILLED) if kind == "half disc" else (rng.uniform(70, 200), 2 * thickness)
        cv2.ellipse(mask, position, axes, rng.uniform(0, 360), 0, sweep, 255, thickness, cv2.LINE_AA)
    return mask


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the non-zero part of a mask."""
    return cv2.boundingRect(mask.view(np.uint8))


def _is_visible(mask: np.ndarray, area: float) -> bool:
    return np.count_nonzero(mask) >= MIN_VISIBLE * area and min(_bounding_box(mask)[2:]) >= MIN_SIDE


def _background(rng: Generator) -> np.ndarray:
    """[352, 352, 3] float32: one color with coarse to fine variations and stripes."""
    image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), rng.uniform(40, 215, 3), np.float32)
    for cells, strength in ((3, 60), (12, 30), (60, 18)):
        noise = rng.uniform(-strength, strength, (cells, cells, 3)) * rng.random()
        image += cv2.resize(noise.astype(np.float32), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_CUBIC)
    return image + _stripes(rng, IMAGE_SIZE, IMAGE_SIZE, _log_uniform(rng, 6, 80)) * rng.uniform(-20, 20, 3)


def _stripes(rng: Generator, height: int, width: int, period: float) -> np.ndarray:
    """[height, width, 1] smooth waves from 0 to 1 in a random direction."""
    angle, start = rng.uniform(0, 2 * math.pi, 2)
    y, x = np.ogrid[:height, :width]
    waves = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period) + start)
    return (waves + 0.5).clip(0, 1)[..., None]


def _paint(rng: Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """Paint a mask in one color, a gradient or stripes."""
    x, y, width, height = _bounding_box(mask)
    if not width:  # clutter outside the image
        return
    area = np.s_[y : y + height, x : x + width]
    under = image[area].mean((0, 1))
    first, second = _contrasting_color(rng, under), _contrasting_color(rng, under)
    # A period much longer than the mask makes one color, a period of a few times its size a gradient.
    period = max(4, max(width, height) * rng.choice((100, rng.uniform(2, 3), rng.uniform(0.25, 0.6))))
    color = first + _stripes(rng, height, width, period) * (second - first)
    image[area] += (mask[area] / 255)[..., None] * (color - image[area])


def _contrasting_color(rng: Generator, under: np.ndarray) -> np.ndarray:
    """Random BGR color with a distance of at least MIN_CONTRAST from the color `under`."""
    while True:
        step = rng.uniform(0, 255, 3) - under
        distance = np.linalg.norm(step)
        if distance >= MIN_CONTRAST:
            return under + step * (_log_uniform(rng, MIN_CONTRAST, distance) / distance)


def _photograph(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Change contrast, brightness and sharpness and add noise, as a camera does."""
    mean = image.mean()
    image = (image - mean) * rng.uniform(0.5, 1.1) + mean + rng.uniform(-30, 30)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 0.9))
    image += rng.uniform(-1, 1, image.shape) * rng.uniform(0, 14)
    return image.round().clip(0, 255).astype(np.uint8)


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return low * (high / low) ** rng.random()
