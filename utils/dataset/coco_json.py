"""Convert a dataset index to COCO annotations.

Format: https://cocodataset.org/#format-data. A box is [x, y, w, h] in pixels, x and y of its upper left corner.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from utils.dataset.index import DatasetIndex

# COCO's classes in the order of their category ids. These are 1 to 90; ten of them are not used.
_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking
meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie,
suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis
racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog,
pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell
phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, hair drier, toothbrush
"""
COCO_CLASSES = " ".join(_NAMES.split()).split(", ")
COCO_CATEGORY_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
_DARKNET_NAMES = {  # darknet names some of COCO's classes as in VOC
    **{"motorbike": "motorcycle", "aeroplane": "airplane", "sofa": "couch", "pottedplant": "potted plant"},
    **{"diningtable": "dining table", "tvmonitor": "tv"},
}


def category_ids(class_names: Sequence[str]) -> list[int]:
    """COCO category id of each class id: COCO's own ids if the classes are COCO's, else class ids + 1.

    With COCO's ids, results can be compared with COCO's annotations.

    Args:
        class_names: in the order of the class ids; COCO's classes are recognized in COCO's order, with COCO's names or
            those of darknet.
    """
    if [_DARKNET_NAMES.get(name, name) for name in class_names] == COCO_CLASSES:
        return list(COCO_CATEGORY_IDS)
    # Other programs and pycocotools use the id 0 for "no match" or the background.
    return list(range(1, len(class_names) + 1))


def image_ids(paths: Sequence[str | Path]) -> list[int]:
    """COCO ids of images: their names if all are different integers, else 1, 2, 3, …

    COCO's own images are named by their ids, so results can be compared with COCO's annotations.
    """
    return _numbers_in_names(paths) or list(range(1, len(paths) + 1))


def _numbers_in_names(paths: Iterable[str | Path]) -> list[int] | None:
    stems = [Path(path).stem for path in paths]
    if all(stem.isascii() and stem.isdigit() for stem in stems):
        ids = [int(stem) for stem in stems]
        if len(set(ids)) == len(ids):
            return ids
    return None


def describe_ids(paths: Iterable[str | Path], class_names: Sequence[str]) -> str:
    """Describe in one line, for messages, which ids `image_ids` and `category_ids` return."""
    images = "the numbers in the file names" if _numbers_in_names(paths) else "1, 2, 3, … in the order of the list"
    is_coco = category_ids(class_names) == COCO_CATEGORY_IDS
    categories = "those of COCO (1…90 with gaps)" if is_coco else "class ids + 1"
    return f"image ids are {images}, category ids are {categories}"


def coco_content(index: DatasetIndex, class_names: Sequence[str], root: str | Path) -> dict:
    """Create the content of a COCO JSON file; files that are not images are skipped.

    Image ids are those of `image_ids`, category ids those of `category_ids`. Polygons are written as bounding boxes.

    Args:
        root: folder that file names are relative to; images outside of it get absolute paths.
    """
    images, annotations = [], []
    root = Path(os.path.abspath(root))
    id_of_class = category_ids(class_names)
    for path, image_id, size, labels in zip(
        index.images, image_ids(index.images), index.sizes.tolist(), index.labels, strict=True
    ):
        if not all(size):
            continue
        path = Path(os.path.abspath(path))
        name = (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
        for label in labels.tolist():
            # pycocotools uses the id 0 for "no match", so ids start at 1.
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": id_of_class[int(label[0])]}
            box = _pixel_box(label[1:], size)
            annotations.append({**annotation, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    named = zip(id_of_class, class_names, strict=True)
    categories = [{"id": category_id, "name": name} for category_id, name in named]
    # pycocotools requires `info` to load results.
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _pixel_box(box: Sequence[float], size: Sequence[int]) -> list[float]:
    """Convert (cx, cy, w, h) as fractions of the image to [x, y, w, h] in pixels."""
    cx, cy, w, h = box
    width, height = size
    pixels = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
    # Digits after a millionth of a pixel are float32 rounding errors.
    return [round(value, 6) for value in pixels]
