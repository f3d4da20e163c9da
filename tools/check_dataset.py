"""Check a data set before training: what is in it, what is wrong, what is doubtful.

    python3 tools/check_dataset.py --data data/mine/mine.data
    python3 tools/check_dataset.py --data data/mine/mine.data --plots --json report.json

Every image is decoded and every label line read. Exit status 1 if anything is an error: malformed labels, images that
cannot be read, pictures that are in train and in val.
"""

from pathlib import Path

from utils import cli


def main(options):
    import json

    from utils.check.checks import check_dataset
    from utils.check.report import as_dictionary, as_text
    from utils.config import read_config
    from utils.files import new_folder, write_text

    config = read_config(options.data)
    report = check_dataset(config, options.workers)
    print(as_text(report, config))
    if options.json:
        write_text(options.json, json.dumps(as_dictionary(report, config), indent=1, ensure_ascii=False))
        print(f"wrote {options.json}")
    if options.plots:
        from utils.plots.dataset import save_plots

        folder = new_folder(options.output, config.model_name)
        for path in save_plots(report.sets, config, folder, options.seed):
            print(f"wrote {path}")
    return 1 if report.errors else 0


if __name__ == "__main__":
    arguments = cli.parser(
        "Check a data set before training. Exit status 1 if anything is an error.",
        ["python3 tools/check_dataset.py --data data/mine/mine.data --plots --json report.json"],
    )
    arguments.add_argument("--data", type=Path, required=True, help=".data file")
    arguments.add_argument("--json", type=Path, help="write the whole report, every line of it, to this file")
    arguments.add_argument("--plots", action="store_true", help="draw classes, box sizes, centres and a mosaic")
    arguments.add_argument("--output", type=Path, default=Path("runs/check"), help="folder for the plots")
    arguments.add_argument("--workers", type=cli.positive_int, help="processes that decode; default: one a core")
    arguments.add_argument("--seed", type=int, default=0, help="of the choice of images for the mosaic")
    cli.run(arguments, main)
