"""Split a set in two: stratified by class, with similar images in the same part."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from utils.convert.locate import LabeledImage
from utils.dataset.images import read_header
from utils.dataset.similar import BATCH, MIN_CORRELATION, THUMBNAIL, correlate, make_thumbnail
from utils.errors import InputError, warn

# Images; each is compared with each other one, so twice as many take four times as long. 10,000 photos of 400x300
# pixels take 12 seconds to read and 4 to compare on two CPU cores.
MAX_COMPARED = 20_000
_NO_OBJECTS = -1  # class of the images without boxes
_COPY_MARK = ".rf."  # Roboflow: a_jpg.rf.HASH.jpg are augmented copies of one image


def split_images(
    images: Sequence[LabeledImage], fraction: float, seed: int
) -> tuple[list[LabeledImage], list[LabeledImage]]:
    """Split a set in two. The result depends on the seed, the file names, the classes and the pixels only.

    Similar images (see `group_similar`) stay together, so the sizes can differ from the fraction.

    Args:
        images: the set. Of two or more images, each part gets at least one.
        fraction: share of the first part, above 0 and below 1.

    Returns:
        The two parts, each sorted by name.
    """
    ordered = sorted(images, key=lambda image: image.name)
    count = round(fraction * len(ordered))
    if len(ordered) > 1:
        count = min(max(count, 1), len(ordered) - 1)
    classes = [{row[0] for row in image.labels} or {_NO_OBJECTS} for image in ordered]
    groups = group_similar(ordered)
    chosen = stratify(groups, classes, count, seed)
    if len(ordered) > 1 and len(chosen) in (0, len(ordered)):
        warn("the images are so similar that they cannot be split into different ones; similar images are in both sets")
        groups = [[position] for position in range(len(ordered))]
        chosen = stratify(groups, classes, count, seed)
    elif sizes := [len(group) for group in groups if len(group) > 1]:
        print(f"groups of similar images, each in one set: {len(sizes)} ({sum(sizes)} images)")
    first, second = [], []
    for position, image in enumerate(ordered):
        (first if position in chosen else second).append(image)
    return first, second


def stratify(groups: Sequence[Sequence[int]], classes: Sequence[set[int]], count: int, seed: int) -> set[int]:
    """Choose whole groups so that the chosen part has its share of the images of each class.

    Iterative stratification (Sechidis et al. 2011): images of the rarest class are distributed first, each to the part
    that lacks the most images of this class.

    Args:
        groups: positions of the images of each group.
        classes: class ids of each image.
        count: images to choose; because groups are not divided, the result may have more or fewer.

    Returns:
        Positions of the chosen images.
    """
    shuffled = list(groups)
    random.Random(seed).shuffle(shuffled)
    contents = [Counter(class_id for position in group for class_id in classes[position]) for group in shuffled]
    left = sum(contents, Counter())
    members = defaultdict(list)  # class id: indices of its groups, large ones first
    for index in sorted(range(len(shuffled)), key=lambda index: -len(shuffled[index])):
        for class_id in contents[index]:
            members[class_id].append(index)
    share = count / max(len(classes), 1)
    wanted = [{key: number * part for key, number in left.items()} for part in (share, 1 - share)]
    room = [count, len(classes) - count]
    parts = {}
    while len(parts) < len(shuffled):
        rarest = min((key for key in left if left[key] > 0), key=lambda key: (left[key], key))
        for index in members[rarest]:
            if index in parts:
                continue
            size = len(shuffled[index])
            part = max((0, 1), key=lambda part: (min(room[part], size), wanted[part][rarest], room[part]))
            parts[index] = part
            room[part] -= size
            left.subtract(contents[index])
            for class_id, number in contents[index].items():
                wanted[part][class_id] -= number
    return {position for index, part in parts.items() if part == 0 for position in shuffled[index]}


def group_similar(images: Sequence[LabeledImage]) -> list[list[int]]:
    """Group images that look the same, also if rotated, mirrored or re-encoded, and Roboflow's augmented copies.

    Returns:
        Positions of the images of each group, in order.
    """
    parents = list(range(len(images)))

    def find(position: int) -> int:
        while parents[position] != position:
            parents[position] = position = parents[parents[position]]
        return position

    for first, second in _similar_pairs(images):
        parents[find(second)] = find(first)
    originals = {}
    for position, image in enumerate(images):
        name, mark, _ = image.name.name.partition(_COPY_MARK)
        if mark:
            parents[find(position)] = find(originals.setdefault(name, position))
    groups = defaultdict(list)
    for position in range(len(images)):
        groups[find(position)].append(position)
    return list(groups.values())


def _similar_pairs(images: Sequence[LabeledImage]) -> list[tuple[int, int]]:
    if len(images) > MAX_COMPARED:
        warn(f"{len(images)} images are too many to search for similar ones; they are split without this search")
        return []
    with ThreadPoolExecutor() as pool:
        read = pool.map(_read_thumbnail, (image.path for image in images))
        thumbnails = np.array(list(tqdm(read, "similar images", len(images), disable=None)), np.float32)
    pairs = []
    for start in range(0, len(images), BATCH):
        correlation = correlate(thumbnails[start : start + BATCH], thumbnails[start:])
        rows, columns = np.nonzero(correlation.max(1) > MIN_CORRELATION)
        pairs += [(start + row, start + column) for row, column in zip(rows, columns, strict=True) if row < column]
    return pairs


def _read_thumbnail(path: Path) -> np.ndarray:
    """Return the thumbnail of an image; zeros, which are similar to nothing, if it cannot be decoded."""
    # A quarter of the size suffices for 16 pixels, and JPEG decodes it in less than half the time.
    try:
        read_header(path)  # refuses images that would fill the memory
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_REDUCED_COLOR_4)
    except (InputError, OSError, cv2.error):
        image = None
    return np.zeros(THUMBNAIL**2, np.float16) if image is None else make_thumbnail(image)
