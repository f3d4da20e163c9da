"""Check a data set before training: count its contents, and list errors and warnings.

    python3 tools/check_dataset.py --data data/mine/mine.data
    python3 tools/check_dataset.py --data data/mine/mine.data --plots --json report.json

Decodes every image and reads every label line. The exit status is 1 if there are errors: malformed labels, label files
that belong to several images, images that are damaged or cannot be decoded, or images that are in both train and val.
"""

import argparse
import json
from pathlib import Path

from utils import cli
from utils.config import read_config
from utils.files import new_folder, write_text


def main(options: argparse.Namespace) -> int:
    from utils.check.checks import check_dataset
    from utils.check.report import as_dictionary, as_text

    config = read_config(options.data)
    report = check_dataset(config, options.workers)
    print(as_text(report, config))
    content = as_dictionary(report, config)
    if options.json:
        write_text(options.json, json.dumps(content, indent=1, ensure_ascii=False))
        print(f"wrote {options.json}")
    if options.plots:
        from utils.plots.dataset import save_plots

        folder = new_folder(options.output, config.model_name)
        for path in save_plots(report.sets, config, folder, options.seed):
            print(f"wrote {path}")
    return 1 if content["errors"] else 0


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--data", type=Path, required=True, help=".data file")
    arguments.add_argument("--json", type=Path, help="write the whole report to this file")
    arguments.add_argument("--plots", action="store_true", help="plot classes, box sizes, box centers and a mosaic")
    arguments.add_argument(
        "--output", type=Path, default=Path("runs/check"), help="folder in which --plots creates a folder"
    )
    arguments.add_argument(
        "--workers", type=cli.thread_count, help="processes that decode images; default: one per core"
    )
    arguments.add_argument("--seed", type=cli.natural_int, default=0, help="seed that selects the images of the mosaic")
    cli.run(arguments, main)
