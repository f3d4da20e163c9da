"""Detect objects in images, in a video or with a camera, and draw them.

    python3 test.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --img img/coffee.jpg
    python3 test.py --data data/coco.data --weights W.pth --img img --txt --json detections.json
    python3 test.py --data data/coco.data --weights W.pth --img street.mp4 --classes 0,2 --conf 0.4
    python3 test.py --data data/coco.data --weights W.pth --img 0 --show

The result for one image is test_result.png in the working directory. The results for a folder, a glob, a list file, a
video or a camera are in the new folder runs/test/NAME.
"""

import argparse

from utils import cli


def class_ids(text: str) -> tuple[int, ...]:
    """argparse type: class ids, separated by commas."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected class ids such as 0,2, got {text!r}") from None


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Detect objects in images, in a video or with a camera, and draw them.",
        [
            "python3 test.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --img img",
            "python3 test.py --data data/coco.data --weights W.pth --img street.mp4 --classes 0,2 --conf 0.4",
        ],
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help=".data file with the classes, anchors and input size of the weights; exported weights do not need it",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help=".pth, .onnx or .ncnn.param file; released weights are downloaded if they are missing",
    )
    parser.add_argument(
        "--img",
        required=True,
        metavar="SOURCE",
        help="image, folder, list of images, video or glob, or the index of a camera (0 is the first one)",
    )
    parser.add_argument("--output", metavar="DIR", help="write the results to this folder (default: runs/test/NAME)")
    cli.add_detection_options(parser, conf=0.3)
    parser.add_argument(
        "--classes", type=class_ids, metavar="IDS", help="keep only these classes, given by their ids, for example 0,2"
    )
    parser.add_argument("--json", metavar="FILE", help="write all detections to this JSON file")
    parser.add_argument("--txt", action="store_true", help="write one darknet label file with scores per image")
    parser.add_argument("--crop", action="store_true", help="write one image file per detected object")
    parser.add_argument("--show", action="store_true", help="show the results in a window; Esc or q stops the run")
    parser.add_argument(
        "--font",
        metavar="FILE",
        help="font file for class names that the bundled font (DejaVu Sans) cannot draw, for example Chinese",
    )
    return parser


def main(options: argparse.Namespace) -> int:
    from utils.detect.report import format_report
    from utils.detect.results import OutputOptions
    from utils.detect.run import Thresholds, detect

    thresholds = Thresholds(options.conf, options.iou, options.max_det, options.classes)
    outputs = OutputOptions(options.output, options.txt, options.crop, options.json, options.show, options.font)
    summary = detect(options.img, options.weights, options.data, options.device, thresholds, outputs)
    print(format_report(summary))
    return 1 if summary.source.incomplete else 0


if __name__ == "__main__":
    cli.run(build_parser(), main)
