"""Draw the synthetic data set with another seed, size or folder.

    python3 tools/make_shapes.py --output /tmp/shapes
    python3 tools/make_shapes.py --output /tmp/shapes --seed 1 --train 2000 --val 200

The set in data/shapes, which data/shapes.data trains on, is drawn on first use without this script.
"""

import argparse
from pathlib import Path

from utils import cli
from utils.dataset import shapes
from utils.errors import InputError


def main(options: argparse.Namespace) -> None:
    if not shapes.make_shapes(options.output, options.seed, options.train, options.val):
        raise InputError(f"{options.output}: created by another process in the meantime")
    print(f"wrote {options.train} images for training and {options.val} for validation into {options.output}")


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--output", type=Path, default=shapes.FOLDER, help="folder to create")
    arguments.add_argument("--seed", type=cli.natural_int, default=shapes.SEED, help="seed of the images")
    arguments.add_argument("--train", type=cli.positive_int, default=shapes.COUNTS["train"], help="training images")
    arguments.add_argument("--val", type=cli.positive_int, default=shapes.COUNTS["val"], help="validation images")
    cli.run(arguments, main)
