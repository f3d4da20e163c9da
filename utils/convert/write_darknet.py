"""Write a data set in darknet format: labels, lists, names, and the .data file with anchors.

OUTPUT/NAME.data             ready for training
OUTPUT/NAME.names            class names, one per line
OUTPUT/NAME-train.txt        list of images; also NAME-val.txt, and NAME-test.txt if the source has a test set
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
from utils.dataset.labels import find_labels, format_labels, label_candidates, parse_labels
from utils.errors import InputError, warn
from utils.files import read_text, write_text
from utils.training.plan import plan

ANCHOR_NUM = 3  # anchors per scale, as in the released checkpoints
# From the released COCO checkpoint, at its input size; used if a data set has too few boxes for its own anchors.
COCO_ANCHORS = ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31), (126.91, 78.23), (131.57, 214.55), (279.92, 258.87))
COCO_INPUT = 352
COORDINATE_TOLERANCE = 1e-6  # fraction of the image by which equal labels may differ

SOURCE_MARK = "# imported from "  # the first line of the .data file, followed by the path of the source

_DATA = """\
{mark}{source}
[name]
model_name={name}

[train-configure]
epochs={epochs}
steps={steps[0]},{steps[1]}
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


def write_dataset(
    sets: dict[str, list[LabeledImage]],
    class_names: Sequence[str],
    options: ImportOptions,
    place: str,
    unlabeled: set[Path],
) -> Path:
    """Write all files of a data set; sets without images get no list.

    Args:
        place: "link", "copy" or "in-place".
        unlabeled: the images whose labels are written if `place` is "in-place".

    Returns:
        Path of the .data file. It is written last, so an interrupted import leaves no .data file.

    Raises:
        InputError: an image that cannot be copied or linked.
    """
    for key, images in sets.items():
        if images:
            lines = _write_images(images, key, options.output, place, unlabeled)
            write_text(options.output / f"{options.name}-{key}.txt", "\n".join(lines) + "\n")
    write_text(options.output / f"{options.name}.names", "\n".join(class_names) + "\n")
    schedule = plan(len(sets["train"]))
    content = _DATA.format(
        mark=SOURCE_MARK,
        source=os.path.realpath(options.source),
        name=options.name,
        batch_size=schedule.batch_size,
        epochs=schedule.epochs,
        steps=schedule.steps,
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


def images_to_label(sets: dict[str, list[LabeledImage]], classes: int) -> set[Path]:
    """Find the images whose labels have to be written if the images stay in place.

    These are all images if none has a label file, else those without label file that have objects.

    Raises:
        InputError: a label file has other labels or would be written to another folder, or an image is in two sets.
    """
    set_of_image, unlabeled = {}, {}
    for key, images in sets.items():
        files = find_labels([os.path.abspath(image.path) for image in images]).files
        for image, label_file in zip(images, files, strict=True):
            if label_file is None:
                unlabeled[image.path] = image.labels
            elif not _has_labels(label_file, image.labels, classes):
                raise InputError(
                    f"{label_file}: this label file has other labels; --place in-place would overwrite or hide it, "
                    "--place link does not"
                )
            if set_of_image.setdefault(image.path, key) != key:
                raise InputError(
                    f"{image.path}: expected an image of one set, got one in {set_of_image[image.path]} and {key}"
                )
    written = [path for path, labels in unlabeled.items() if labels or len(unlabeled) == len(set_of_image)]
    _check_links([os.path.abspath(path) for path in written])
    return set(written)


def _check_links(images: Sequence[str]) -> None:
    """Check that no label file of these images would be written through a link into another folder."""
    checked = set()  # (folder of images, folder of their labels)
    for image in images:
        label_file = label_candidates(image)[-1]
        folders = (os.path.dirname(image), os.path.dirname(label_file))
        if folders in checked and not os.path.islink(label_file):
            continue
        checked.add(folders)
        root = os.path.realpath(os.path.commonpath([image, label_file]))
        real = os.path.realpath(label_file)
        if os.path.commonpath([root, real]) != root:
            raise InputError(
                f"{label_file}: expected a path in {root}, got a link to {real}; --place in-place would write there, "
                "--place link does not"
            )


def _has_labels(label_file: str, labels: Sequence[Label], classes: int) -> bool:
    """Whether a label file has exactly these labels."""
    parsed = parse_labels(read_text(label_file), classes)
    rows = np.array(labels).reshape(-1, 5)
    return (
        not parsed.problems
        and parsed.labels.shape == rows.shape
        and bool(np.abs(parsed.labels - rows).max(initial=0) < COORDINATE_TOLERANCE)
    )


def _write_images(
    images: Sequence[LabeledImage], key: str, output: Path, place: str, unlabeled: set[Path]
) -> list[str]:
    """Write the labels of the set `key`, place its images, and return the lines of the list of images."""
    in_place = place == "in-place"
    lines = []
    for image in tqdm(images, f"writing {key}", disable=None):
        lines.append(os.path.abspath(image.path) if in_place else Path("images", key, image.name).as_posix())
        if in_place and image.path not in unlabeled:
            continue
        target = output / lines[-1]
        if not in_place:
            _place_image(image.path, target, place)
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
