"""Detect objects in images, in a video, with a camera or in a network stream, and draw them.

    python3 test.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --img img/coffee.jpg
    python3 test.py --data data/coco.data --weights W.pth --img img --txt --json detections.json
    python3 test.py --data data/coco.data --weights W.pth --img street.mp4 --classes person,car --conf 0.4
    python3 test.py --data data/coco.data --weights W.pth --img 0 --show
    python3 test.py --data data/coco.data --weights W.pth --img rtsp://camera/live --hide-labels

The result for one image is test_result.png in the working directory. The results for a folder, a glob, a list file, a
video, a camera or a stream are in the new folder runs/test/NAME.
"""

import argparse

from utils import cli


def build_parser() -> argparse.ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--data",
        metavar="FILE",
        help=".data file with the classes, anchors and input size of the weights; not needed for weights of train.py "
        "and pytorch2onnx.py, which contain these",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE",
        help=".pth, .onnx, .ncnn.param or .tflite file; released weights are downloaded if they are missing",
    )
    parser.add_argument(
        "--img",
        required=True,
        metavar="SOURCE",
        help="image, folder, list of images, video or glob, the index of a camera (0 is the first one), or the address "
        "of an image, video or stream (http, https, rtsp, rtmp, udp, …)",
    )
    parser.add_argument("--output", metavar="DIR", help="write the results to this folder (default: runs/test/NAME)")
    cli.add_detection_options(parser, conf=None)
    cli.add_threads_option(parser, default="the fastest number, as measured at the start; 1 for a single image")
    parser.add_argument(
        "--classes", metavar="CLASSES", help="keep only these classes: ids or names, for example 0,2 or cat,dog"
    )
    parser.add_argument("--json", metavar="FILE", help="write all detections to this JSON file")
    parser.add_argument("--txt", action="store_true", help="write one darknet label file with scores per image")
    parser.add_argument("--crop", action="store_true", help="write one image file per detected object")
    parser.add_argument("--show", action="store_true", help="show the results in a window; Esc or q stops the run")
    parser.add_argument("--hide-labels", action="store_true", help="draw boxes without class names and scores")
    parser.add_argument(
        "--line-width",
        type=cli.positive_int,
        metavar="N",
        help="line width of the boxes in pixels (default: depends on the size of the image); small boxes get thinner "
        "lines",
    )
    parser.add_argument(
        "--font",
        metavar="FILE",
        help="font file for class names that matplotlib's font DejaVu Sans cannot draw, for example Chinese",
    )
    return parser


def main(options: argparse.Namespace) -> int:
    from utils.detect.options import DetectOptions
    from utils.detect.report import format_report
    from utils.detect.run import detect

    summary = detect(DetectOptions(**vars(options)))
    print(format_report(summary))
    if summary.interrupted:
        return cli.INTERRUPTED
    return 1 if summary.source.incomplete else 0


if __name__ == "__main__":
    cli.run(build_parser(), main)
