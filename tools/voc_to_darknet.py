"""Pascal VOC XML to darknet: labels, lists, names and a .data file with anchors.

    python3 tools/voc_to_darknet.py --annotations xml --images photos --output data/mine --split 0.8
    python3 tools/voc_to_darknet.py --annotations VOC2007/Annotations --images VOC2007/JPEGImages --output data/voc \\
        --train VOC2007/ImageSets/Main/train.txt --val VOC2007/ImageSets/Main/val.txt

Then `python3 tools/check_dataset.py --data data/mine/mine.data`. Exit status 1 when something broken was dropped;
everything else is converted all the same, and OUTPUT/problems.txt lists it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project, from whatever folder this is run

from utils import cli
from utils.convert.options import add_options, check_options
from utils.errors import InputError


def main(options):
    check_options(options, has_val=options.val is not None)
    if options.val and not options.train:
        raise InputError("--val: needs --train, the list of the training set")
    from utils.convert.annotations import Findings
    from utils.convert.darknet import convert
    from utils.convert.voc import read_voc

    findings = Findings()
    lists = {key: path for key, path in (("train", options.train), ("val", options.val)) if path}
    sets = read_voc(options.annotations, findings, lists, options.keep_difficult, options.origin)
    return convert(sets, dict.fromkeys(sets, options.images), findings, options)


if __name__ == "__main__":
    arguments = cli.parser(
        "Pascal VOC XML to darknet: labels, lists, names and a .data file with anchors. "
        "Exit status 1 when something broken was dropped.",
        ["python3 tools/voc_to_darknet.py --annotations xml --images photos --output data/mine --split 0.8"],
    )
    arguments.add_argument("--annotations", type=Path, required=True, help="folder of the XML files")
    arguments.add_argument("--images", type=Path, required=True, help="folder of the images, sub-folders alike")
    arguments.add_argument("--train", type=Path, help="list of names for training, as in ImageSets/Main; default: all")
    arguments.add_argument("--val", type=Path, help="list of names for validation")
    arguments.add_argument("--keep-difficult", action="store_true", help="take objects that are marked difficult")
    arguments.add_argument(
        "--origin",
        type=int,
        choices=(0, 1),
        default=1,
        help="1: corners are pixels counted from 1 and inside the box, as VOC has it; 0: positions counted from 0",
    )
    add_options(arguments)
    cli.run(arguments, main)
