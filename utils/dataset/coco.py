"""A dataset index as COCO annotations.

Format: https://cocodataset.org/#format-data. A box is [x, y, w, h] in pixels, x and y of its upper left corner.
"""

import os
from pathlib import Path


def image_ids(paths):
    """Ids of images for COCO's files: the number in the name where every name is one, else 1, 2, 3, …

    COCO's own images are named by their ids, so results on them can be compared with COCO's own annotations.
    """
    stems = [Path(path).stem for path in paths]
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(range(1, len(stems) + 1))


def coco_content(index, class_names, root):
    """A darknet data set as the content of a COCO JSON; files that are no images are left out.

    Ids of images are as from `image_ids`, of categories the class number + 1. Label lines that are polygons come
    as their bounding boxes.

    Args:
        index: DatasetIndex, from `load_index` or `scan_dataset`.
        class_names: names of the classes.
        root: folder that file names are relative to; images outside it get absolute ones.
    Returns:
        dict for `json.dump`.
    """
    images, annotations = [], []
    for path, image_id, size, labels in zip(
        index.images, image_ids(index.images), index.sizes.tolist(), index.labels, strict=True
    ):
        if not all(size):
            continue
        images.append({"id": image_id, "file_name": _relative_name(path, root), "width": size[0], "height": size[1]})
        for label in labels.tolist():
            # pycocotools takes the id 0 for "no match", so ids begin at 1.
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": int(label[0]) + 1}
            box = _pixel_box(label[1:], size)
            annotations.append({**annotation, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]
    # pycocotools copies `info` into the results that it loads.
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _pixel_box(box, size):
    """(cx, cy, w, h) as fractions of the image to [x, y, w, h] in pixels."""
    cx, cy, w, h = box
    width, height = size
    pixels = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
    # A millionth of a pixel: what is behind it is noise of float32.
    return [round(value, 6) for value in pixels]


def _relative_name(path, root):
    path, root = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
