"""Write a data set in darknet format: labels, lists, names, and the .data file with anchors.

OUTPUT/NAME.data             ready for training
OUTPUT/NAME.names            class names, one per line
OUTPUT/NAME-train.txt        list of images; also NAME-val.txt
OUTPUT/images/train/a/b.jpg  the images, links or copies
OUTPUT/labels/train/a/b.txt  their labels
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model import SCALES
from utils.anchors import box_sizes, cluster, fit, format_anchors
from utils.convert.locate import Label, LabeledImage
from utils.convert.options import ImportOptions
from utils.dataset.labels import label_candidates
from utils.errors import InputError, warn
from utils.files import write_text

ANCHOR_NUM = 3  # anchors per scale, as in the released checkpoints
# From the released COCO checkpoint, at its input size; used if a data set has too few boxes for its own anchors.
COCO_ANCHORS = ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31), (126.91, 78.23), (131.57, 214.55), (279.92, 258.87))
COCO_INPUT = 352
MAX_BATCH, MIN_BATCHES = 128, 16  # images per batch at most; batches per epoch at least, if there are enough images

_DATA = """\
[name]
model_name={name}

[train-configure]
epochs=300
steps=150,250
batch_size={batch_size}
subdivisions=1
learning_rate=0.001

[model-configure]
pre_weights=None
classes={classes}
width={width}
height={height}
anchor_num={anchor_num}
anchors={anchors}

[data-configure]
train={name}-train.txt
val={val}
names={name}.names
"""


def write_dataset(sets: dict[str, list[LabeledImage]], class_names: Sequence[str], options: ImportOptions) -> Path:
    """Write all files of a data set; sets without images get no list.

    Returns:
        The .data file, which is written last: an interrupted import leaves none.

    Raises:
        InputError: labels that would be overwritten, an image in both sets, or an image that cannot be linked.
    """
    if options.place == "in-place":
        _check_in_place(sets)
    for key, images in sets.items():
        if images:
            lines = _write_images(images, key, options)
            write_text(options.output / f"{options.name}-{key}.txt", "\n".join(lines) + "\n")
    write_text(options.output / f"{options.name}.names", "\n".join(class_names) + "\n")
    batch_size = MAX_BATCH
    while batch_size > 1 and batch_size * MIN_BATCHES > len(sets["train"]):
        batch_size //= 2
    content = _DATA.format(
        name=options.name,
        batch_size=batch_size,
        classes=len(class_names),
        width=options.width,
        height=options.height,
        anchor_num=ANCHOR_NUM,
        anchors=format_anchors(_find_anchors(sets["train"], options)),
        val=f"{options.name}-val.txt" if sets.get("val") else None,
    )
    path = options.output / f"{options.name}.data"
    write_text(path, content)
    return path


def _check_in_place(sets: dict[str, list[LabeledImage]]) -> None:
    """Check that no file of the user, and no label file of the other set, would be overwritten."""
    set_of_image = {}
    for key, images in sets.items():
        for image in images:
            for path in label_candidates(os.path.abspath(image.path)):
                if os.path.exists(path):
                    raise InputError(f"{path}: this label file exists; --place in-place would overwrite or hide it")
            if set_of_image.setdefault(image.path, key) != key:
                raise InputError(f"{image.path}: expected an image of one set, got one in train and val")


def _write_images(images: Sequence[LabeledImage], key: str, options: ImportOptions) -> list[str]:
    """Write the labels of one set, place its images, and return the lines of the list of images."""
    in_place = options.place == "in-place"
    lines = []
    for image in tqdm(images, f"writing {key}", disable=None):
        lines.append(os.path.abspath(image.path) if in_place else Path("images", key, image.name).as_posix())
        target = options.output / lines[-1]
        if not in_place:
            _place_image(image.path, target, options.place)
        # The last candidate is the one under labels/, if there are two. Not written atomically: syncing 100,000 small
        # files takes hours, and the .data file, written last, shows that all are complete.
        label_file = Path(label_candidates(str(target))[-1])
        label_file.parent.mkdir(parents=True, exist_ok=True)
        label_file.write_text(format_labels(image.labels), encoding="utf-8")
    return lines


def _place_image(source: Path, target: Path, place: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if place == "copy":
            shutil.copyfile(source, target)
        else:
            target.symlink_to(source.resolve())
    except OSError as error:
        hint = "; --place copy needs no links" if place == "link" else ""
        raise InputError(f"{target}: cannot {place} the image to this path: {error.strerror}{hint}") from error


def format_labels(labels: Sequence[Label]) -> str:
    """Return the lines of a label file; nine decimals are more precise than the float32 that labels are read as."""
    return "".join(f"{row[0]:d} {row[1]:.9f} {row[2]:.9f} {row[3]:.9f} {row[4]:.9f}\n" for row in labels)


def _find_anchors(images: Sequence[LabeledImage], options: ImportOptions) -> np.ndarray:
    rows = np.array([row for image in images for row in image.labels], dtype=np.float64).reshape(-1, 5)
    sizes = box_sizes([rows], options.width, options.height)
    try:
        anchors = cluster(sizes, SCALES * ANCHOR_NUM, seed=options.seed)
    except InputError as error:
        warn(f"{error}; the .data file gets the anchors of COCO")
        return np.array(COCO_ANCHORS) * (options.width / COCO_INPUT, options.height / COCO_INPUT)
    fitted = fit(sizes, anchors)
    print(
        f"anchors at {options.width}x{options.height}, seed {options.seed}: {format_anchors(anchors)} "
        f"(average IoU {fitted.average_iou:.4f}, {fitted.recall:.1%} of the boxes matched)"
    )
    return anchors
