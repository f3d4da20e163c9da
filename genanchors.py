"""Find anchors for a data set with k-means on its box sizes.

    python3 genanchors.py --traintxt ./train.txt
    python3 genanchors.py --data data/mine.data --write
    python3 genanchors.py --traintxt ./train.txt --num_clusters 0 --output_dir runs/anchors --plot

Writes anchors6.txt: the anchors sorted by width, as in the .data file, and their average IoU with the boxes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from utils import cli
from utils.config import Config, read_config
from utils.errors import InputError

MAX_CLUSTERS = 10  # with --num_clusters 0


def complete_options(options: argparse.Namespace, config: Config | None) -> None:
    """Set options that are not given to the values of the .data file, or else to defaults. Check all options."""
    if config:
        source, width, height, count = config.train, config.width, config.height, sum(map(len, config.anchors))
    else:
        source, width, height, count = Path("./train.txt"), 352, 352, 6
    options.traintxt = options.traintxt or source
    options.input_width = options.input_width or width
    options.input_height = options.input_height or height
    if options.num_clusters is None:  # 0 has a meaning
        options.num_clusters = count
    if options.traintxt is None:
        raise InputError(f"{config.path}: expected train=LIST or the option --traintxt, got neither")
    if options.write:
        if not config:
            raise InputError("--write: expected --data with the .data file to write to, got none")
        if count not in cluster_counts(options):
            got = options.num_clusters
            raise InputError(f"--write: expected --num_clusters {count}, as in {config.path}, got {got}")
        if (options.input_width, options.input_height) != (width, height):
            expected, got = f"{width}x{height}", f"{options.input_width}x{options.input_height}"
            raise InputError(f"--write: expected {expected} pixels, as in {config.path}, got {got}")


def cluster_counts(options: argparse.Namespace) -> list[int]:
    return [options.num_clusters] if options.num_clusters else list(range(1, MAX_CLUSTERS + 1))


def main(options: argparse.Namespace) -> None:
    import numpy as np

    from utils.anchors import RESTARTS, box_sizes, cluster, fit, fit_report, replace_anchors, write_anchor_file
    from utils.dataset.index import load_index

    config = read_config(options.data) if options.data else None
    complete_options(options, config)
    source, width, height = options.traintxt, options.input_width, options.input_height
    index = load_index(source, config.classes if config else None)
    sizes = box_sizes(index.labels, width, height)
    # Find all anchors before writing any, so that no file is written if there are too few boxes for one of the counts.
    try:
        found = {count: cluster(sizes, count, options.seed) for count in cluster_counts(options)}
    except InputError as error:
        raise InputError(f"{source}: {error}") from None

    print(f"{source}: images {len(index)}, boxes {len(sizes)}, at {width}x{height} pixels")
    print(f"seed {options.seed}, best of {RESTARTS} starts")
    current = np.array(config.anchors).reshape(-1, 2) if config else None
    if config:
        print(f"\nanchors in {config.path} now: {fit_report(current, fit(sizes, current))}")
    written = []
    for count, anchors in found.items():
        fitted = fit(sizes, anchors)
        print(f"\nclusters {count}: {fit_report(anchors, fitted)}")
        written.append(options.output_dir / f"anchors{count}.txt")
        write_anchor_file(written[-1], anchors, fitted.average_iou)
        if options.plot:
            from utils.plots.anchors import save_anchor_plot

            written.append(options.output_dir / f"anchors{count}.png")
            title = f"average IoU {fitted.average_iou:.4f}, recall {fitted.recall:.2%}"
            save_anchor_plot(written[-1], sizes, anchors, title, current)
    print("", *(f"wrote {path}" for path in written), sep="\n")
    if options.write:
        backup = replace_anchors(config.path, found[len(current)])
        print(f"wrote the anchors into {config.path}; backup of the previous file: {backup}")
        print(f"weights that were trained before need the previous anchors: use them with --data {backup}")


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--traintxt",
        type=Path,
        help="list of images, folder or glob pattern (default: from --data, or else ./train.txt)",
    )
    parser.add_argument("--output_dir", type=Path, default=Path(), help="folder for anchors6.txt")
    parser.add_argument(
        "--num_clusters",
        type=cli.natural_int,
        help="count of anchors (default: from --data, or else 6); 0 writes one file for each count from 1 to 10",
    )
    parser.add_argument(
        "--input_width",
        type=cli.positive_int,
        help="input width of the network in pixels (default: from --data, or else 352)",
    )
    parser.add_argument(
        "--input_height",
        type=cli.positive_int,
        help="input height of the network in pixels (default: from --data, or else 352)",
    )
    parser.add_argument(
        "--data", type=Path, help=".data file that sets the list of images, the input size and the count of anchors"
    )
    parser.add_argument("--write", action="store_true", help="write the anchors into the .data file and keep a backup")
    parser.add_argument("--seed", type=cli.natural_int, default=0, help="seed for the random starts of k-means")
    parser.add_argument("--plot", action="store_true", help="plot box sizes and anchors to anchors6.png")
    cli.run(parser, main)
