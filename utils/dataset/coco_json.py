"""Convert a dataset index to COCO annotations.

Format: https://cocodataset.org/#format-data. A box is [x, y, w, h] in pixels, x and y of its upper left corner.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from utils.dataset.index import DatasetIndex


def image_ids(paths: Iterable[str | Path]) -> list[int]:
    """COCO ids of images: their names if all are different integers, else 1, 2, 3, …

    COCO's own images are named by their ids, so results can be compared with COCO's annotations.
    """
    stems = [Path(path).stem for path in paths]
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        ids = [int(stem) for stem in stems]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(stems) + 1))


def coco_content(index: DatasetIndex, class_names: Sequence[str], root: str | Path) -> dict:
    """Create the content of a COCO JSON file; files that are not images are skipped.

    Image ids are those of `image_ids`, category ids are class ids + 1. Polygons are written as bounding boxes.

    Args:
        root: folder that file names are relative to; images outside of it get absolute paths.
    """
    images, annotations = [], []
    for path, image_id, size, labels in zip(
        index.images, image_ids(index.images), index.sizes.tolist(), index.labels, strict=True
    ):
        if not all(size):
            continue
        images.append({"id": image_id, "file_name": _relative_name(path, root), "width": size[0], "height": size[1]})
        for label in labels.tolist():
            # pycocotools uses the id 0 for "no match", so ids start at 1.
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(label[0]) + 1}
            box = _pixel_box(label[1:], size)
            annotations.append({**annotation, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": category_id, "name": name} for category_id, name in enumerate(class_names, 1)]
    # pycocotools requires `info` to load results.
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _pixel_box(box: Sequence[float], size: Sequence[int]) -> list[float]:
    """Convert (cx, cy, w, h) as fractions of the image to [x, y, w, h] in pixels."""
    cx, cy, w, h = box
    width, height = size
    pixels = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
    # Digits after a millionth of a pixel are float32 rounding errors.
    return [round(value, 6) for value in pixels]


def _relative_name(path: Path, root: str | Path) -> str:
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
