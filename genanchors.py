"""Anchors for a data set, by k-means on its boxes.

    python3 genanchors.py --traintxt ./train.txt
    python3 genanchors.py --data data/mine.data --write
    python3 genanchors.py --traintxt ./train.txt --num_clusters 0 --output_dir runs/anchors --plot

Writes anchors6.txt: the anchors sorted by width, as the .data file wants them, and their average IoU with the boxes.
"""

from pathlib import Path

from utils import cli
from utils.errors import InputError

EXAMPLES = [line.strip() for line in __doc__.split("\n")[2:5]]
MOST_CLUSTERS = 10  # with --num_clusters 0
DEFAULTS = {"traintxt": Path("./train.txt"), "input_width": 352, "input_height": 352, "num_clusters": 6}


def main(options):
    import numpy as np

    from model import SCALES
    from utils.anchors import RESTARTS, box_sizes, cluster, fit, fit_report, replace_anchors, write_anchor_file
    from utils.config import read_config
    from utils.dataset.index import load_index
    from utils.dataset.shapes import prepare

    config = prepare(read_config(options.data)) if options.data else None
    settings = choose_settings(options, config)
    numbers = range(1, MOST_CLUSTERS + 1) if settings["num_clusters"] == 0 else [settings["num_clusters"]]
    if options.write:
        check_write(config, settings, numbers)
    index = load_index(settings["traintxt"], config.classes if config else None)
    width, height = settings["input_width"], settings["input_height"]
    sizes = box_sizes(index.labels, width, height)
    current = np.array(config.anchors).reshape(-1, 2) if config else None
    # All are found before any is written: data that are too few for one of them leave no half of the files.
    try:
        found = {number: cluster(sizes, number, options.seed) for number in numbers}
    except InputError as error:
        raise InputError(f"{settings['traintxt']}: {error}") from None

    print(f"{settings['traintxt']}: images {len(index)}, boxes {len(sizes)}, at {width}x{height} pixels")
    print(f"seed {options.seed}, best of {RESTARTS} starts")
    if config:
        print(f"\nanchors in {config.path} now: {fit_report(current, fit(sizes, current))}")
    written = []
    for number, anchors in found.items():
        fitted = fit(sizes, anchors)
        print(f"\nclusters {number}: {fit_report(anchors, fitted)}")
        written.append(options.output_dir / f"anchors{number}.txt")
        write_anchor_file(written[-1], anchors, fitted.average_iou)
        if options.plot:
            from utils.plots.anchors import save_anchor_plot

            written.append(options.output_dir / f"anchors{number}.png")
            title = f"average IoU {fitted.average_iou:.4f}, recall {fitted.recall:.2%}"
            save_anchor_plot(written[-1], sizes, anchors, title, current)
    print()
    for path in written:
        print(f"wrote {path}")
    if options.write:
        backup = replace_anchors(config.path, found[SCALES * config.anchor_num])
        print(f"wrote the anchors into {config.path}; as it was before: {backup}")


def choose_settings(options, config):
    """What counts first is the command line, then the .data file, then DEFAULTS."""
    from model import SCALES

    settings = dict(DEFAULTS)
    if config:
        settings |= {
            "traintxt": config.train,
            "input_width": config.width,
            "input_height": config.height,
            "num_clusters": SCALES * config.anchor_num,
        }
    settings |= {key: value for key in DEFAULTS if (value := getattr(options, key)) is not None}
    if settings["traintxt"] is None:
        raise InputError(f"{config.path}: expected train=LIST, got none; --traintxt names a list as well")
    return settings


def check_write(config, settings, numbers):
    from model import SCALES

    if not config:
        raise InputError("--write: expected --data as well, the file that the anchors are written into")
    wanted = SCALES * config.anchor_num
    if wanted not in numbers:
        of_file = f"{config.path} has anchor_num={config.anchor_num} at {SCALES} scales"
        raise InputError(f"--write: {of_file}: expected --num_clusters {wanted}, got {settings['num_clusters']}")
    size, of_file = (settings["input_width"], settings["input_height"]), (config.width, config.height)
    if size != of_file:
        raise InputError("--write: expected {}x{} pixels, as in {}, got {}x{}".format(*of_file, config.path, *size))


if __name__ == "__main__":
    arguments = cli.parser("Anchors for a data set, by k-means on its boxes.", EXAMPLES)
    arguments.add_argument("--traintxt", type=Path, help="list of images, folder or glob (default: ./train.txt)")
    arguments.add_argument("--output_dir", type=Path, default=Path(), help="where anchors6.txt goes")
    arguments.add_argument(
        "--num_clusters", type=cli.natural_int, help="number of anchors; 0 means 1 to 10, a file each"
    )
    arguments.add_argument("--input_width", type=cli.positive_int, help="of the network, in pixels (default: 352)")
    arguments.add_argument("--input_height", type=cli.positive_int, help="of the network, in pixels (default: 352)")
    arguments.add_argument(
        "--data", type=Path, help=".data file; list, width, height and number of anchors are its own"
    )
    arguments.add_argument("--write", action="store_true", help="put the anchors into the .data file, keeping a backup")
    arguments.add_argument("--seed", type=cli.natural_int, default=0, help="of the random starts")
    arguments.add_argument("--plot", action="store_true", help="draw box sizes and anchors to anchors6.png")
    cli.run(arguments, main)
