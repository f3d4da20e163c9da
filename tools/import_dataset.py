"""COCO JSON to darknet: labels, lists, names and a .data file with anchors.

    python3 tools/import_dataset.py --json instances_train.json --images train2017 --output data/mine --split 0.8
    python3 tools/import_dataset.py --json instances_train.json --images train2017 \\
        --val-json instances_val.json --val-images val2017 --output data/coco --place copy

Then `python3 tools/check_dataset.py --data data/mine/mine.data`. Exit status 1 when something broken was dropped;
everything else is converted all the same, and OUTPUT/problems.txt lists it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project, from whatever folder this is run

from utils import cli
from utils.convert.options import add_options, check_options


def main(options):
    check_options(options, has_val=options.val_json is not None)
    from utils.convert.annotations import Findings
    from utils.convert.coco import read_coco
    from utils.convert.darknet import convert

    findings = Findings()
    sets = {"train": read_coco(options.json, findings, options.keep_crowds)}
    folders = {"train": options.images}
    if options.val_json:
        sets["val"] = read_coco(options.val_json, findings, options.keep_crowds)
        folders["val"] = options.val_images or options.images
    return convert(sets, folders, findings, options)


if __name__ == "__main__":
    arguments = cli.parser(
        "COCO JSON to darknet: labels, lists, names and a .data file with anchors. "
        "Exit status 1 when something broken was dropped.",
        ["python3 tools/import_dataset.py --json train.json --images photos --output data/mine --split 0.8"],
    )
    arguments.add_argument("--json", type=Path, required=True, help="annotations, all or of the training set")
    arguments.add_argument("--images", type=Path, required=True, help="folder that the file names in it are inside")
    arguments.add_argument("--val-json", type=Path, help="annotations of the validation set")
    arguments.add_argument("--val-images", type=Path, help="folder of its images; default: that of --images")
    arguments.add_argument("--keep-crowds", action="store_true", help="take boxes around crowds as objects")
    add_options(arguments)
    cli.run(arguments, main)
