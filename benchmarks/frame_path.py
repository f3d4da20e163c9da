"""Measure the time per frame in test.py without the network: from pixels in memory to the image with boxes.

    python3 benchmarks/frame_path.py --weights model.ncnn.param --img img

Prints the times of resizing, conversion of the input, decoding, NMS, scaling and drawing, and their sum as a share of
the time of the network in NCNN on one thread. All images are processed several times, one after the other; the result
is the mean over the images of the median per image.
"""

from utils import cli

WARM_UP = 2  # rounds that are not measured


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help=".ncnn.param file that pytorch2onnx.py --ncnn wrote"
    )
    parser.add_argument("--img", required=True, metavar="WHAT", help="images, as for test.py")
    parser.add_argument("--images", type=cli.positive_int, default=32, metavar="N", help="use the first N images")
    parser.add_argument(
        "--conf", type=cli.fraction, default=0.3, help="keep detections with a score above this, as in test.py"
    )
    parser.add_argument("--repeats", type=cli.positive_int, default=15, metavar="N", help="measured rounds")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write")
    return parser


def main(options):
    import statistics

    from result_file import write_results

    from utils.dataset.images import read_image
    from utils.dataset.lists import list_images
    from utils.detect.run import FrameDetector
    from utils.errors import InputError
    from utils.plots.fonts import class_labels
    from utils.postprocess import Thresholds
    from utils.runtimes.loading import load_runtime
    from utils.runtimes.ncnn_format import PARAM_SUFFIX

    if not options.weights.endswith(PARAM_SUFFIX):
        raise InputError(f"--weights {options.weights}: expected a {PARAM_SUFFIX} file of pytorch2onnx.py --ncnn")
    runtime = load_runtime(options.weights)
    runtime.set_threads(1)
    config = runtime.info
    thresholds = Thresholds(options.conf, config.iou, config.max_det)
    detector = FrameDetector(runtime, config.size, thresholds)
    labels = class_labels(config.class_names)
    images = [read_image(path) for path in list_images(options.img)[: options.images]]
    rounds = [[time_frame(detector, image, labels) for image in images] for _ in range(WARM_UP + options.repeats)][
        WARM_UP:
    ]
    parts = {
        name: statistics.mean(
            statistics.median(times[index][name] for times in rounds) * 1000 for index in range(len(images))
        )
        for name in rounds[0][0]
    }
    other = sum(value for name, value in parts.items() if name != "network")
    print(f"{len(images)} images of {options.img}, {options.weights} on one thread, milliseconds per frame")
    for name, value in parts.items():
        print(f"  {name:16}{value:7.3f}")
    print(f"everything but the network {other:.3f}: {other / parts['network']:.2f} of the network's time")
    if options.output:
        write_results(options.output, {**parts, "share": other / parts["network"]})


def time_frame(detector, image, labels):
    """Detect in one frame and draw the boxes; return {part: seconds}."""
    import time

    from utils.plots.draw import draw_detections

    detections, seconds = detector(image)
    start = time.perf_counter()
    draw_detections(image, detections, labels)
    return {**seconds, "drawing": time.perf_counter() - start}


if __name__ == "__main__":
    cli.run(build_parser(), main)
