"""Compare the released checkpoint with other small detectors: AP on the same COCO images, and latency in NCNN.

    python3 pytorch2onnx.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth --ncnn --int8
    python3 benchmarks/peers.py --data data/coco.data --peers DIR --models model.ncnn.param model-int8.ncnn.param

DIR contains the released files of the other detectors, NAME.param and NAME.bin:

    FastestDet                                https://github.com/dog-qiuqiu/FastestDet, example/ncnn
    yolo-fastest-1.1, yolo-fastest-1.1-xl     https://github.com/dog-qiuqiu/Yolo-Fastest, sample/ncnn/model
    nanodet_m                                 https://github.com/nihui/ncnn-assets, models

Each detector gets its own pre-processing, decoding and NMS threshold. Boxes are clipped to the image. All are evaluated
with pycocotools on the val list, from detections with scores above 0.01. The latency is that of the network for one
image, on one thread, in turns; that of Yolo-Fastest includes decoding and NMS, which are a layer of its network.
"""

from pathlib import Path

import numpy as np

from utils import cli

CONF = 0.01
CLASSES = 80
YOLO_OUTPUT = "Yolov3DetectionOutput"  # layer that decodes and suppresses; parameter 2 is its score threshold
NANODET_STRIDES = (8, 16, 32)
NANODET_MEAN, NANODET_SCALE = (103.53, 116.28, 123.675), (0.017429, 0.017507, 0.017125)


def build_parser():
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add(
        "--data", required=True, metavar="FILE", help=".data file with COCO's class names and a val list of COCO images"
    )
    add("--peers", required=True, metavar="DIR", help="folder with the .param and .bin files of the other detectors")
    add("--models", nargs="+", default=(), metavar="FILE", help=".ncnn.param files that pytorch2onnx.py wrote")
    add("--runs", type=cli.positive_int, default=100, metavar="N", help="timed runs per detector")
    add("--output", metavar="FILE", help="JSON file to write")
    return parser


def main(options):
    import statistics

    from latency import measure, ncnn_run
    from result_file import write_results
    from tqdm import tqdm

    from utils.config import read_config
    from utils.dataset.images import read_image
    from utils.dataset.index import open_list
    from utils.errors import InputError
    from utils.evaluation.detect import detect_images
    from utils.evaluation.evaluate import compute_metrics
    from utils.runtimes.loading import load_runtime
    from utils.runtimes.ncnn_format import bin_path

    config = read_config(options.data)
    if config.classes != CLASSES:
        raise InputError(f"{options.data}: expected COCO's {CLASSES} classes, got {config.classes}")
    index = open_list(config, "val")
    frame = config.size
    detections, runs = {}, {}
    for model in options.models:
        name = Path(model).name
        detections[name] = detect_images(load_runtime(model), index, config)
        runs[name] = ncnn_run(Path(model), bin_path(model), config.width, threads=1)
    for name, (size, detect) in PEERS.items():
        param = Path(options.peers, f"{name}.param")
        runs[name] = ncnn_run(param, param.with_suffix(".bin"), size, threads=1)
        net = open_net(param)
        images = tqdm(index.images, desc=name)
        detections[name] = [to_frame(detect(net, read_image(path), size), frame) for path in images]
    times = measure(runs, options.runs)
    rows = {}
    for name in runs:
        summary = compute_metrics(detections[name], index, config).coco.summary
        milliseconds = statistics.median(times[name])
        rows[name] = {"AP50": summary["AP50"], "AP": summary["AP"], "ms": milliseconds}
        print("{:26} AP50 {AP50:.4f}  AP {AP:.4f}  {ms:6.2f} ms".format(name, **rows[name]))
    if options.output:
        write_results(options.output, {"images": len(index), "detectors": rows})


def open_net(param):
    """Open an NCNN model; the score threshold of a layer that has one becomes CONF."""
    import ncnn

    from utils.errors import InputError

    net = ncnn.Net()
    net.opt.num_threads = 1
    lines = param.read_text(encoding="utf-8").splitlines()
    lines = [with_threshold(line) if line.startswith(YOLO_OUTPUT) else line for line in lines]
    if net.load_param_mem("\n".join(lines) + "\n") or net.load_model(str(param.with_suffix(".bin"))):
        raise InputError(f"{param}: expected an NCNN model, got a file that NCNN cannot load")
    return net


def with_threshold(line):
    return " ".join(f"2={CONF}" if word.startswith("2=") else word for word in line.split(" "))


def run_net(net, pixels, outputs):
    """Run a network on pixels [3, H, W]; return its outputs as arrays."""
    import ncnn

    pixels = np.ascontiguousarray(pixels, np.float32)
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], ncnn.Mat(pixels))  # a view, valid because `pixels` outlives the extraction
    return [np.array(extractor.extract(name)[1]) for name in outputs]


def resized(image, size, rgb=False):
    """Resize an image [H, W, 3] without keeping its aspect, and scale it to 0…1: [3, size, size]."""
    import cv2

    pixels = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return (pixels[..., ::-1] if rgb else pixels).transpose(2, 0, 1) / 255


def to_frame(found, frame):
    """Clip detections [n, 6], (x1, y1, x2, y2, score, class), to the image, and scale the fractions to a frame."""
    boxes = found[:, :4].clip(0, 1) * [*frame, *frame]
    return np.concatenate((boxes, found[:, 4:]), 1).astype(np.float32)


def suppress(boxes, scores, classes, iou):
    """Keep the best of detections of one class that overlap: [n, 6], by descending score."""
    import torch
    from torchvision.ops import batched_nms

    keep = batched_nms(*map(torch.from_numpy, (boxes.astype(np.float64), scores.astype(np.float64), classes)), iou)
    return np.concatenate((boxes, scores[:, None], classes[:, None]), 1)[keep.numpy()]


def fastestdet(net, image, size):
    """FastestDet: one scale, no anchors; score = objectness^0.6 · class^0.4, tanh offsets (module/detector.py)."""
    (output,) = run_net(net, resized(image, size), ("758",))  # [1 objectness + 4 box + classes, rows, columns]
    _, rows, columns = output.shape
    objectness, box, classes = output[0], output[1:5], output[5:]
    scores = objectness**0.6 * classes.max(0) ** 0.4
    row, column = np.indices((rows, columns))
    center = np.stack(((np.tanh(box[0]) + column) / columns, (np.tanh(box[1]) + row) / rows), -1)
    half = 1 / (1 + np.exp(-box[2:].transpose(1, 2, 0))) / 2
    boxes = np.concatenate((center - half, center + half), -1)
    kept = scores > CONF
    return suppress(boxes[kept], scores[kept], classes.argmax(0)[kept], iou=0.45)


def yolo_fastest(net, image, size):
    """Yolo-Fastest 1.1: NCNN's layer decodes and suppresses; class 0 of the layer is the background."""
    (output,) = run_net(net, resized(image, size, rgb=True), ("output",))  # [n, 6] class, score, x1, y1, x2, y2
    output = output.reshape(-1, 6)
    return np.concatenate((output[:, 2:], output[:, 1:2], output[:, :1] - 1), 1)


def nanodet(net, image, size):
    """NanoDet-m: letterboxed; a box is four distances from the cell's center, each the mean of a distribution."""
    import cv2

    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner = [max(1, int(side * scale)) for side in (width, height)]
    outer = [-(-side // 32) * 32 for side in inner]
    left, top = ((padded - side) // 2 for padded, side in zip(outer, inner, strict=True))
    pixels = np.zeros((outer[1], outer[0], 3), np.float32)
    pixels[top : top + inner[1], left : left + inner[0]] = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    pixels = ((pixels - NANODET_MEAN) * NANODET_SCALE).transpose(2, 0, 1)
    outputs = run_net(net, pixels, ("792", "795", "814", "817", "836", "839"))
    boxes, scores = [], []
    for stride, class_scores, distances in zip(NANODET_STRIDES, outputs[::2], outputs[1::2], strict=True):
        row, column = np.indices((outer[1] // stride, outer[0] // stride))
        center = (np.stack((column, row), -1).reshape(-1, 2) + 0.5) * stride
        weights = np.exp(distances.reshape(len(center), 4, -1))
        sides = (weights * np.arange(weights.shape[2])).sum(2) / weights.sum(2) * stride
        boxes.append(np.concatenate((center - sides[:, :2], center + sides[:, 2:]), 1))
        scores.append(class_scores.reshape(len(center), -1))
    boxes, scores = np.concatenate(boxes), np.concatenate(scores)
    cell, classes = np.nonzero(scores > CONF)
    boxes = (boxes - [left, top, left, top]) / scale / [width, height, width, height]
    return suppress(boxes[cell], scores[cell, classes], classes, iou=0.6)


PEERS = {
    "FastestDet": (352, fastestdet),
    "yolo-fastest-1.1": (320, yolo_fastest),
    "yolo-fastest-1.1-xl": (320, yolo_fastest),
    "nanodet_m": (320, nanodet),
}


if __name__ == "__main__":
    cli.run(build_parser(), main)
