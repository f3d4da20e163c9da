"""Detect in pictures, in a video or with a camera, and draw what was found.

    python3 test.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --img img/coffee.jpg
    python3 test.py --data data/coco.data --weights W.pth --img img --txt --json found.json
    python3 test.py --data data/coco.data --weights W.pth --img street.mp4 --classes 0,2 --conf 0.4
    python3 test.py --data data/coco.data --weights W.pth --img 0 --show

The result of one image is test_result.png in the working directory; that of a folder, a glob, a list file or a video
goes to a folder of its own, runs/test/NAME.
"""

import argparse

from utils import cli


def class_numbers(text):
    """argparse type: class numbers with commas between."""
    try:
        numbers = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected class numbers such as 0,2, got {text!r}") from None
    return numbers


def build_parser():
    parser = cli.parser(
        "Detect in pictures, in a video or with a camera, and draw what was found.",
        [
            "python3 test.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --img img",
            "python3 test.py --data data/coco.data --weights W.pth --img street.mp4 --classes 0,2 --conf 0.4",
        ],
    )
    parser.add_argument(
        "--data", metavar="FILE", help=".data file that the weights go with; not needed by exported ones"
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help=".pth, .onnx or .ncnn.param; released weights are downloaded if missing",
    )
    parser.add_argument(
        "--img", required=True, metavar="WHAT", help="image, folder, glob, list file, video, or number of a camera"
    )
    parser.add_argument("--output", metavar="DIR", help="folder of the results (default: runs/test/NAME)")
    parser.add_argument("--conf", type=cli.fraction, default=0.3, help="detections must score above this")
    parser.add_argument("--iou", type=cli.fraction, default=0.4, help="overlap above which the weaker box is dropped")
    parser.add_argument(
        "--max-det", type=cli.positive_int, default=300, metavar="N", help="best detections kept an image"
    )
    parser.add_argument("--classes", type=class_numbers, metavar="0,2", help="only these class numbers")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument("--json", metavar="FILE", help="write the detections as JSON")
    parser.add_argument("--txt", action="store_true", help="write darknet labels with scores")
    parser.add_argument("--crop", action="store_true", help="write every object as a picture of its own")
    parser.add_argument("--show", action="store_true", help="show results in a window; Esc or q stops")
    parser.add_argument("--font", metavar="FILE", help="font for class names (default: one that has their characters)")
    return parser


def main(options):
    from pathlib import Path

    from utils.detect.report import report
    from utils.detect.results import write_json
    from utils.detect.run import FrameDetector, Wanted, check_classes, detect_all
    from utils.detect.sources import open_source
    from utils.detect.window import open_window
    from utils.plots.fonts import class_labels
    from utils.runtimes.loading import load_runtime, read_model_config

    config = read_model_config(options.data, options.weights)
    check_classes(options.classes, config.class_names)
    with open_source(options.img) as source:
        runtime = load_runtime(options.weights, config, options.device)
        thresholds = {name: getattr(options, name) for name in ("conf", "iou", "max_det", "classes")}
        wanted = Wanted(
            folder=Path(options.output or Path("runs", "test", source.name)),
            single=source.single and options.output is None,
            labels=options.txt,
            crops=options.crop,
            records=options.json is not None,
        )
        summary = detect_all(
            source,
            FrameDetector(runtime, (config.width, config.height), **thresholds),
            class_labels(config.class_names, options.font),
            config.class_names,
            wanted,
            open_window(source.name) if options.show else None,
        )
    if options.json:
        made_with = {"data": options.data, "weights": options.weights, **thresholds}
        write_json(options.json, {**made_with, "skipped": source.failed}, summary.records)
        summary.written.append(options.json)
    print(report(summary, source, options.weights, runtime, config))
    return 1 if source.failed else 0


if __name__ == "__main__":
    cli.run(build_parser(), main)
