"""Import a data set: write labels, lists, names and a .data file with anchors.

The source is a folder, its description or a zip file, with YOLO labels, COCO JSON or Pascal VOC XML annotations.

    python3 tools/import_dataset.py photos --output data/mine
    python3 tools/import_dataset.py roboflow.zip --output data/mine
    python3 tools/import_dataset.py instances.json --images photos --output data/mine --split 0.9
    python3 tools/import_dataset.py train.json --val val.json --output data/mine --place copy
    python3 tools/import_dataset.py VOC2007 --output data/voc \\
        --train-list VOC2007/ImageSets/Main/train.txt --val-list VOC2007/ImageSets/Main/val.txt

Broken entries are dropped and listed in OUTPUT/problems.txt; the rest is imported, and the exit status is 1.
"""

import argparse
from pathlib import Path

from utils import cli
from utils.convert.options import FORMATS, PLACES, ImportOptions


def main(options: argparse.Namespace) -> int:
    from utils.convert.importer import import_dataset

    return import_dataset(ImportOptions(**vars(options)))


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a folder of images and annotations, a COCO JSON file, data.yaml, obj.data, or a zip file of these",
    )
    add("--output", type=Path, required=True, help="new folder for the data set")
    add("--format", choices=FORMATS, help="format of the annotations; default: detected")
    add("--images", type=Path, help="folder of the images; default: in SOURCE or next to the annotations")
    add("--val", type=Path, help="annotations of the validation set; default: that of SOURCE, or else --split")
    add("--val-images", type=Path, help="folder of the validation images; default: as for the training set")
    add("--train-list", type=Path, help="VOC: names of the training images, as in ImageSets/Main; default: all")
    add("--val-list", type=Path, help="VOC: names of the validation images")
    add(
        "--split",
        type=cli.fraction,
        help="share of the images for train, the same for each class; the others are for val; 1: no val set; default: "
        "0.8 if SOURCE has no val set",
    )
    add("--keep-crowds", action="store_true", help="COCO: keep boxes around crowds")
    add("--keep-difficult", action="store_true", help="VOC: keep objects marked as difficult")
    add(
        "--origin",
        type=int,
        choices=(0, 1),
        help="VOC: 1 if corners are the first and last pixels of the box, counted from 1; 0 if they are coordinates "
        "from 0; default: 0 if a corner is 0 or boxes have fractions, or else 1",
    )
    add(
        "--names",
        type=Path,
        help="file of class names: keep only these classes, in this order; if SOURCE has no class names, the names of "
        "YOLO's class ids",
    )
    add("--name", help="name of the files and the model; default: name of the output folder")
    add(
        "--place",
        choices=PLACES,
        default="link",
        help="link: symbolic links to the images; copy: copies; in-place: the images stay, the labels are written next "
        "to them (under labels/ if they are under images/ or JPEGImages/) unless they exist there; auto: in-place if "
        "all labels exist there, or else link",
    )
    add("--seed", type=cli.natural_int, default=0, help="seed of the split and of the anchors")
    add("--width", type=cli.positive_int, default=352, help="input width of the network, in pixels")
    add("--height", type=cli.positive_int, default=352, help="input height of the network, in pixels")
    cli.run(parser, main)
