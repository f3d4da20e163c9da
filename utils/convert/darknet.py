"""Writing a data set in darknet's format: labels, lists, names, and the .data file with anchors.

OUTPUT/NAME.data             ready for training
OUTPUT/NAME.names            class names, one a line
OUTPUT/NAME-train.txt        list of images; NAME-val.txt alike
OUTPUT/images/train/a/b.jpg  the images, links or copies
OUTPUT/labels/train/a/b.txt  their labels
OUTPUT/problems.txt          what was broken or changed, if anything was
"""

import os
import shutil
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from model import SCALES
from utils.anchors import box_sizes, cluster, fit, format_anchors
from utils.config import read_names
from utils.convert.annotations import choose_classes, locate, split_images
from utils.dataset.labels import label_candidates
from utils.errors import InputError, warn
from utils.files import write_text
from utils.text import align_columns

ANCHOR_NUM = 3  # a scale, as in the released checkpoints
# Of the released COCO checkpoint, at its input size; for data with too few boxes to find own ones.
COCO_ANCHORS = ((12.64, 19.39), (37.88, 51.48), (55.71, 138.31), (126.91, 78.23), (131.57, 214.55), (279.92, 258.87))
COCO_INPUT = 352
MAX_BATCH, MIN_BATCHES = 128, 16  # largest batch, and how many an epoch has at least where the data allow it
SHOWN = 20  # problems that are printed; the file has all

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


def convert(sets, folders, findings, options):
    """Annotations to a darknet data set on disk, and what was done on standard output.

    Args:
        sets: {"train": Annotations, maybe "val": Annotations}.
        folders: {set: folder of its images}.
        findings: Findings of the readers, added to.
        options: from utils.convert.options, checked.
    Returns:
        exit status: 1 if anything broken was dropped, else 0.
    Raises:
        InputError: classes that do not agree, no image left, labels in the way, images that cannot be linked.
    """
    class_names = choose_classes(sets, read_names(options.names) if options.names else None, options.names)
    located = {key: locate(sets[key].images, folders[key], class_names, findings) for key in sets}
    if options.split is not None:
        print(f"split at random: {options.split:g} for train, seed {options.seed}")
        located["train"], located["val"] = split_images(located["train"], options.split, options.seed)
    if not located["train"]:
        example = f", for example {findings.dropped[0]}" if findings.dropped else ""
        raise InputError(f"no image is left to train on{example}")
    if options.place == "in-place":
        _check_in_place(located)
    lists = {key: write_images(images, key, options.output, options.place) for key, images in located.items() if images}
    for key, lines in lists.items():
        write_text(options.output / f"{options.name}-{key}.txt", "\n".join(lines) + "\n")
    write_text(options.output / f"{options.name}.names", "\n".join(class_names) + "\n")
    _print_counts(located, class_names)
    # Last, so that an interrupted conversion leaves no .data file.
    data = write_data(located, class_names, options)
    _print_findings(findings, options.output / "problems.txt")
    print(f"wrote {data}, its names, {len(lists)} list{'s' if len(lists) > 1 else ''} and {_places(options)}")
    return 1 if findings.dropped else 0


def write_images(images, key, output, place):
    """Write the labels of one set and put its images where the labels are found.

    Args:
        images: list of LabelledImage.
        key: name of the set.
        output: folder of the data set.
        place: one of utils.convert.options.PLACES.
    Returns:
        lines of the list of images: relative to `output`, or absolute for "in-place".
    Raises:
        InputError: an image cannot be linked or copied.
    """
    if place == "in-place":
        targets = lines = [os.path.abspath(image.path) for image in images]
    else:
        lines = [Path("images", key, image.name).as_posix() for image in images]
        targets = [os.path.join(output, line) for line in lines]
    for image, target in tqdm(zip(images, targets, strict=True), f"writing {key}", len(images), disable=None):
        if place != "in-place":
            _put_image(image.path, target, place)
        # The last candidate is the one under labels/, if there are two. Written plainly: hundreds of thousands
        # of small files, each forced to the disk, would take hours, and the .data file comes when all are there.
        label_file = Path(label_candidates(target)[-1])
        label_file.parent.mkdir(parents=True, exist_ok=True)
        label_file.write_text(label_text(image.labels), encoding="utf-8")
    return lines


def _check_in_place(located):
    """Nothing of the user's may be overwritten, and no labels of one set by those of the other."""
    sets = {}
    for key, images in located.items():
        for image in images:
            for path in label_candidates(os.path.abspath(image.path)):
                if os.path.exists(path):
                    raise InputError(f"{path}: this label file is there already, and would be overwritten or hidden")
            if sets.setdefault(image.path, key) != key:
                raise InputError(f"{image.path}: this image is in {sets[image.path]} and in {key}")


def _put_image(source, target, place):
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if place == "copy":
            shutil.copyfile(source, target)
        else:
            os.symlink(os.path.realpath(source), target)
    except OSError as error:
        hint = "; --place copy needs no links" if place == "link" else ""
        raise InputError(f"{target}: cannot {place} the image here: {error.strerror}{hint}") from error


def label_text(labels):
    """Labels as darknet's lines; nine decimals hold a box to better than float32, in which labels are read.

    Args:
        labels: rows (class, cx, cy, w, h) as fractions of the image.
    """
    return "".join(f"{row[0]:d} {row[1]:.9f} {row[2]:.9f} {row[3]:.9f} {row[4]:.9f}\n" for row in labels)


def write_data(located, class_names, options):
    """Write the .data file with anchors found on the training boxes; its path."""
    batch_size = MAX_BATCH
    while batch_size > 1 and batch_size * MIN_BATCHES > len(located["train"]):
        batch_size //= 2
    content = _DATA.format(
        name=options.name,
        batch_size=batch_size,
        classes=len(class_names),
        width=options.width,
        height=options.height,
        anchor_num=ANCHOR_NUM,
        anchors=format_anchors(_find_anchors(located["train"], options)),
        val=f"{options.name}-val.txt" if located.get("val") else None,
    )
    path = options.output / f"{options.name}.data"
    write_text(path, content)
    return path


def _find_anchors(images, options):
    import numpy as np

    rows = np.array([row for image in images for row in image.labels], dtype=np.float64).reshape(-1, 5)
    sizes = box_sizes([rows], options.width, options.height)
    try:
        anchors = cluster(sizes, SCALES * ANCHOR_NUM, seed=options.seed)
    except InputError as error:
        warn(f"{error}; the .data file gets COCO's anchors")
        return np.array(COCO_ANCHORS) * (options.width / COCO_INPUT, options.height / COCO_INPUT)
    fitted = fit(sizes, anchors)
    print(
        f"anchors at {options.width}x{options.height}, seed {options.seed}: {format_anchors(anchors)} "
        f"(average IoU {fitted.average_iou:.4f}, {fitted.recall:.1%} of the boxes matched)"
    )
    return anchors


def _print_counts(located, class_names):
    sets = located.values()
    counters = [Counter(row[0] for image in images for row in image.labels) for images in sets]
    rows = [
        ["", *located],
        ["images", *(len(images) for images in sets)],
        ["images without boxes", *(sum(not image.labels for image in images) for images in sets)],
        ["boxes", *(counter.total() for counter in counters)],
        *([name, *(counter[number] for counter in counters)] for number, name in enumerate(class_names)),
    ]
    print(align_columns([list(map(str, row)) for row in rows]))


def _print_findings(findings, path):
    for what, count in findings.left_out.items():
        print(f"left out: {count} {what}")
    lines = [*(f"dropped: {line}" for line in findings.dropped), *(f"changed: {line}" for line in findings.changed)]
    if not lines:
        return
    for line in lines[:SHOWN]:
        warn(line)
    write_text(path, "\n".join(lines) + "\n")
    print(f"broken entries dropped: {len(findings.dropped)}, boxes cut: {len(findings.changed)}; {path} lists them")


def _places(options):
    kind = {"link": "links to the images", "copy": "copies of the images", "in-place": "no images"}[options.place]
    return f"labels, {kind}" + ("; the labels are with the images" if options.place == "in-place" else "")
