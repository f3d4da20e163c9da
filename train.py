"""Train a detector on the train list of a .data file.

    python3 train.py --data data/coco.data
    python3 train.py --data data/coco.data --epochs 50 --batch-size 32 --seed 1
    python3 train.py --data data/coco.data --resume
    torchrun --nproc_per_node=2 train.py --data data/coco.data

Options override the .data file. Weights go to weights/, everything else to runs/train/NAME/.
"""

import argparse

from utils import cli
from utils.config import read_config
from utils.errors import InputError
from utils.training.recipe import DEFAULT, RECIPES


def build_parser() -> argparse.ArgumentParser:
    """Create the parser. Its defaults are None: those of TrainOptions apply, or with --resume the values of the run."""
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add("--data", metavar="FILE", help=".data file with lists, class names, anchors, epochs, batch size, learning rate")
    add("--recipe", choices=RECIPES, help=f"loss, optimizer and augmentation to train with (default: {DEFAULT})")
    add(
        "--weights",
        metavar="FILE",
        help="weights file to start from: a detector, also with other classes, or a backbone; 'scratch' starts from "
        "random weights (default: pre_weights of the .data file, or else the released COCO detector; with the recipe "
        "'original' the ImageNet backbone)",
    )
    add("--epochs", type=cli.positive_int, metavar="N", help="train for N epochs (default: from the .data file)")
    add(
        "--batch-size",
        type=cli.positive_int,
        metavar="N",
        help="images per optimizer step, over all processes (default: from the .data file)",
    )
    add(
        "--lr",
        type=cli.positive_float,
        metavar="RATE",
        help="learning rate after the warm-up (default: from the .data file, times the recipe's factor)",
    )
    add("--device", help="device to train on: auto, cpu, cuda, cuda:1, … (default: auto)")
    add(
        "--workers",
        type=cli.worker_count,
        metavar="N",
        help="processes that read images; 0 reads them in the main process (default: 2, or with a GPU one per core)",
    )
    cli.add_threads_option(parser)
    add("--seed", type=cli.natural_int, metavar="N", help="seed for weights, image order and augmentation (default: 0)")
    add(
        "--cache",
        choices=("gpu", "ram", "disk", "none"),
        help="keep the decoded images on the GPU (which then also augments them), in main memory, or in one file on "
        "disk (default: gpu if they fit in half of its free memory, else none)",
    )
    add(
        "--amp",
        action=argparse.BooleanOptionalAction,
        help="train in mixed precision (bfloat16 or float16); needs CUDA (default: no)",
    )
    add(
        "--ema",
        action=argparse.BooleanOptionalAction,
        help="evaluate and save an exponential moving average of the weights (default: as the recipe says)",
    )
    add(
        "--graph",
        action=argparse.BooleanOptionalAction,
        help="on CUDA, run each step as one CUDA graph (default: yes)",
    )
    add(
        "--eval-interval",
        type=cli.positive_int,
        metavar="N",
        help="evaluate every N epochs (default: a tenth of all epochs)",
    )
    add(
        "--patience",
        type=cli.natural_int,
        metavar="N",
        help="stop after N epochs without a better AP50; 0 never stops (default: 0)",
    )
    add(
        "--save-interval",
        type=cli.natural_int,
        metavar="SECONDS",
        help="seconds between checkpoints within an epoch (default: 600)",
    )
    add("--freeze-backbone", action=argparse.BooleanOptionalAction, help="do not train the backbone (default: no)")
    add("--output", metavar="DIR", help="parent folder of the run folder (default: runs/train)")
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="FILE",
        help="continue a run from its NAME-last.pth, with the options of the run except those given again "
        "(default: the newest run of the .data file's model_name in weights/, or without --data the newest of all)",
    )
    return parser


def main(options: argparse.Namespace) -> int:
    from utils.training.distributed import check_gpus, main_first, process_group
    from utils.training.paths import find_checkpoint
    from utils.training.run import Run
    from utils.training.settings import TrainOptions, read_settings
    from utils.weights.checkpoint import read_training

    given = {name: value for name, value in vars(options).items() if name != "resume" and value is not None}
    with process_group():
        with main_first():
            saved = None
            if options.resume is not None:
                if options.weights:
                    raise InputError("--weights: starts a new run, so it cannot be combined with --resume")
                model_name = read_config(options.data).model_name if options.data else None
                saved = read_training(options.resume or find_checkpoint(model_name))
            values = {**saved["options"], **given} if saved else given
            if not values.get("data"):
                raise InputError("--data: expected a .data file, for example --data data/coco.data")
            settings = read_settings(TrainOptions.from_dict(values))
            check_gpus(settings.options.device)
        return Run(settings, saved).train()


if __name__ == "__main__":
    cli.run(build_parser(), main)
