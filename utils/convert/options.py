"""The options that every conversion to darknet's format has, and the checks that can be made before it begins."""

import os
import re
from pathlib import Path

from model import SIZE_MULTIPLE
from utils import cli
from utils.errors import InputError

PLACES = ("link", "copy", "in-place")


def add_options(arguments):
    """Add the options to an ArgumentParser."""
    arguments.add_argument("--output", type=Path, required=True, help="new folder for the data set")
    arguments.add_argument("--name", help="of the files and the model; default: the output folder's name")
    arguments.add_argument(
        "--place",
        choices=PLACES,
        default="link",
        help="link: symbolic links to the images; copy: copies; in-place: the lists name the images where they are, "
        "and the labels are written beside them (under labels/ for images under images/ or JPEGImages/)",
    )
    arguments.add_argument("--names", type=Path, help="take only the classes in this file, in its order")
    arguments.add_argument("--split", type=_share, help="share of the images for train, the others for val, at random")
    arguments.add_argument("--seed", type=int, default=0, help="of the split and of the anchors")
    arguments.add_argument("--width", type=cli.positive_int, default=352, help="input width of the network, in pixels")
    arguments.add_argument("--height", type=cli.positive_int, default=352, help="input height, in pixels")


def check_options(options, has_val):
    """Complete `options.name` and check what can be checked before files are read.

    Raises:
        InputError: the output folder holds something, a size the network cannot have, a split of two sets, a name
            that cannot stand in a .data file.
    """
    output = options.output
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: expected a new or empty folder to write to")
    for key in ("width", "height"):
        if getattr(options, key) % SIZE_MULTIPLE:
            raise InputError(f"--{key}: expected a multiple of {SIZE_MULTIPLE}, got {getattr(options, key)}")
    if options.split is not None and has_val:
        raise InputError("--split: divides one set into train and val, but there is a val set already")
    options.name = options.name or Path(os.path.abspath(output)).name
    # In a .data file a '#' after a blank begins a comment.
    if not options.name or re.search(r"[/\\\n\r]|(^|\s)#|^\s|\s$", options.name):
        raise InputError(f"--name: expected a name that files can have, got {options.name!r}")


def _share(text):
    value = cli.fraction(text)
    if value in (0, 1):
        raise cli.argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value
