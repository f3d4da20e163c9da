"""Train a detector on the train list of a .data file.

    python3 train.py --data data/coco.data
    python3 train.py --data data/coco.data --epochs 50 --batch-size 32 --seed 1
    python3 train.py --data data/coco.data --resume
    torchrun --nproc_per_node=2 train.py --data data/coco.data

Weights go to weights/, everything else that a run leaves to runs/train/NAME/.
"""

import argparse
import sys

from utils import cli
from utils.training.recipe import DEFAULT, RECIPES


def build_parser():
    parser = cli.parser(
        "Train a detector on the train list of a .data file. What is given here wins over the .data file.",
        ["python3 train.py --data data/coco.data", "python3 train.py --data data/coco.data --resume"],
    )
    parser.add_argument("--data", metavar="FILE", help=".data file: lists, classes, anchors, epochs, batch, rate")
    parser.add_argument("--recipe", choices=RECIPES, default=DEFAULT, help="how to train")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights to start from, also a backbone alone or of other classes; 'scratch' for random "
        "(default: pre_weights in the .data file, else the ImageNet backbone)",
    )
    parser.add_argument("--epochs", type=cli.positive_int, metavar="N", help="(default: from the .data file)")
    parser.add_argument(
        "--batch-size",
        type=cli.positive_int,
        metavar="N",
        help="images an optimiser step, over all processes (default: from the .data file)",
    )
    parser.add_argument(
        "--lr",
        type=cli.positive_float,
        metavar="RATE",
        help="(default: the .data file's, times a factor of the recipe's)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--workers", type=cli.natural_int, default=2, metavar="N", help="processes that read images")
    parser.add_argument("--seed", type=cli.natural_int, default=0, metavar="N", help="of weights, order, augmentation")
    parser.add_argument("--cache", choices=("ram", "disk"), help="keep the decoded images in memory or in one file")
    parser.add_argument("--amp", action="store_true", help="mixed precision, on CUDA")
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        help="evaluate and save an average of the weights (default: as the recipe says)",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile, for CUDA: minutes to start")
    parser.add_argument(
        "--eval-interval", type=cli.positive_int, metavar="N", help="epochs between evaluations (default: a tenth)"
    )
    parser.add_argument(
        "--patience",
        type=cli.natural_int,
        default=0,
        metavar="N",
        help="stop after N epochs without better AP50; 0: never",
    )
    parser.add_argument(
        "--save-interval",
        type=cli.natural_int,
        default=600,
        metavar="SECONDS",
        help="save what --resume needs so often within an epoch, as well as after it",
    )
    parser.add_argument("--freeze-backbone", action="store_true", help="train the heads alone")
    parser.add_argument("--output", default="runs/train", metavar="DIR", help="folder for the run's own folder")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="FILE",
        help="go on with a run from its NAME-last.pth (default: the newest in weights/), with its options",
    )
    return parser


def main(options):
    from utils.errors import InputError
    from utils.training.distributed import main_first, process_group
    from utils.training.run import Run, newest_checkpoint
    from utils.training.settings import read_settings
    from utils.weights.checkpoint import read_training

    with process_group():
        with main_first():
            saved = None
            if options.resume is not None:
                saved = read_training(options.resume or newest_checkpoint())
                # Options given now win over those of the run.
                options, _ = build_parser().parse_known_args(sys.argv[1:], argparse.Namespace(**saved["options"]))
            if not options.data:
                raise InputError("--data: expected a .data file, for example --data data/coco.data")
            kept = {name: value for name, value in vars(options).items() if name not in ("resume", "debug")}
            run = Run(read_settings(options), kept, saved)
        return run.train()


if __name__ == "__main__":
    cli.run(build_parser(), main)
