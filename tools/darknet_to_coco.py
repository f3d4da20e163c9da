"""Darknet labels to a COCO JSON that pycocotools reads.

    python3 tools/darknet_to_coco.py --data data/mine/mine.data --set val --output mine-val.json
    python3 tools/darknet_to_coco.py --list photos/val.txt --names photos/mine.names --output mine-val.json

An image without label file has no objects. Category ids are class numbers + 1; image ids are the numbers in the
images' names if all have one, as COCO's do, else 1, 2, 3, … Exit status 1 when something broken was dropped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project, from whatever folder this is run

from utils import cli
from utils.errors import InputError, warn


def main(options):
    import json

    from utils.dataset.coco import coco_content
    from utils.dataset.index import scan_dataset, warn_about_labels
    from utils.files import write_text

    source, names = _source(options)
    index, problems = scan_dataset(source, len(names))
    good = index.sizes.all(1)
    problems += [_image_problem(path) for path, is_image in zip(index.images, good, strict=True) if not is_image]
    for problem in problems:
        warn(f"dropped: {problem}")
    if not good.any():
        raise InputError(f"{source}: none of its {len(index)} images can be read")
    content = coco_content(index, names, options.root or (source if source.is_dir() else source.parent))
    write_text(options.output, json.dumps(content, ensure_ascii=False))
    warn_about_labels(index)
    if problems:
        print(f"broken entries dropped: {len(problems)}")
    boxes = len(content["annotations"])
    print(f"wrote {options.output}: {good.sum()} images, {boxes} boxes, {len(names)} categories")
    return 1 if problems else 0


def _image_problem(path):
    from utils.dataset.images import image_size

    try:
        image_size(path)
    except InputError as error:
        return error


def _source(options):
    """What to read the images from, and the class names."""
    from utils.config import read_config, read_names
    from utils.dataset.lists import list_path

    if options.data:
        config = read_config(options.data)
        return list_path(config, options.set), config.class_names
    if not options.names:
        raise InputError("--list: needs --names, the file of class names")
    return options.list, read_names(options.names)


if __name__ == "__main__":
    arguments = cli.parser(
        "Darknet labels to a COCO JSON that pycocotools reads. Exit status 1 when something broken was dropped.",
        ["python3 tools/darknet_to_coco.py --data data/mine/mine.data --set val --output mine-val.json"],
    )
    source = arguments.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help=".data file that names the lists and the classes")
    source.add_argument("--list", type=Path, help="list of images, folder or glob; with --names")
    arguments.add_argument("--set", choices=("train", "val"), default="val", help="which list of the .data file")
    arguments.add_argument("--names", type=Path, help="class names, one a line, for --list")
    arguments.add_argument("--root", type=Path, help="folder that file names are relative to; default: the list's")
    arguments.add_argument("--output", type=Path, required=True, help="JSON file to write")
    cli.run(arguments, main)
