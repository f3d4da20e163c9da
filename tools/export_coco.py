"""Export darknet labels as a COCO JSON file for pycocotools and other programs.

    python3 tools/export_coco.py --data data/mine/mine.data --set val --output mine-val.json
    python3 tools/export_coco.py --list photos/val.txt --names photos/mine.names --output mine-val.json

Images without a label file have no objects. Category ids are COCO's if the classes are COCO's, or else class ids + 1.
Image ids are the file names if these are different integers, as in COCO, or else 1, 2, 3, … The exit status is 1 if
broken entries were dropped.
"""

import argparse
import json
from pathlib import Path

from utils import cli
from utils.config import read_config, read_names
from utils.errors import InputError, warn
from utils.files import write_text
from utils.text import counted


def main(options: argparse.Namespace) -> int:
    from utils.dataset.coco_json import coco_content, describe_ids
    from utils.dataset.images import read_header
    from utils.dataset.index import scan_dataset, warn_about_labels
    from utils.dataset.lists import list_path

    if options.data and options.names:
        raise InputError("--names: only for --list; the .data file names the classes")
    if options.data:
        config = read_config(options.data)
        source, names = list_path(config, options.set), config.class_names
    elif options.names:
        source, names = options.list, read_names(options.names)
    else:
        raise InputError("--list: needs --names, the file of class names")
    index, problems = scan_dataset(source, len(names))
    readable = index.sizes.all(1)
    for position in (~readable).nonzero()[0].tolist():
        try:
            read_header(index.images[position])
        except InputError as error:
            problems.append(error)
    for count, problem in enumerate(problems, 1):
        warn(f"dropped: {problem}", count)
    if not readable.any():
        raise InputError(f"{source}: none of its {len(index)} images can be read")
    root = options.root or (source if source.is_dir() else source.parent)
    content = coco_content(index, names, root)
    write_text(options.output, json.dumps(content, ensure_ascii=False))
    warn_about_labels(index)
    if problems:
        print(f"dropped: {counted(len(problems), 'entry', 'entries')}")
    images, boxes = counted(int(readable.sum()), "image"), counted(len(content["annotations"]), "box", "boxes")
    categories = counted(len(names), "category", "categories")
    print(f"wrote {options.output}: {images}, {boxes}, {categories}; the images are in {root}")
    print(describe_ids(index.images, names))
    return 1 if problems else 0


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    source = arguments.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help=".data file, which names the lists and the classes")
    source.add_argument("--list", type=Path, help="list of images, folder or glob; needs --names")
    arguments.add_argument("--set", choices=("train", "val"), default="val", help="which list of the .data file")
    arguments.add_argument("--names", type=Path, help="class names for --list, one per line")
    arguments.add_argument(
        "--root", type=Path, help="folder that file names are relative to; default: folder of the list"
    )
    arguments.add_argument("--output", type=Path, required=True, help="JSON file to write")
    cli.run(arguments, main)
