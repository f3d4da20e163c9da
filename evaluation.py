"""Evaluate a detector on the val list of a .data file.

    python3 evaluation.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth
    python3 evaluation.py --data data/coco.data --weights W.pth --json metrics.json --plots
    python3 evaluation.py --data data/coco.data --weights W.pth model.onnx model.ncnn.param

Prints the original repository's metrics, to compare with published values, the 12 COCO metrics by pycocotools, and a
table of all classes. For several weights files it prints one line each, with file size and latency.
"""

import json
import os

from utils import cli
from utils.config import EVAL_CONF, read_config
from utils.errors import InputError, warn
from utils.files import check_writable, new_folder, write_text
from utils.machine import CoreWait, use_threads
from utils.optional import require
from utils.text import counted


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help=".data file with val list, classes and anchors")
    parser.add_argument(
        "--weights",
        required=True,
        nargs="+",
        metavar="FILE",
        help="weights (.pth) or exported model (.onnx, .ncnn.param, .tflite); released weights are downloaded if they "
        "are missing; several files are compared in one table",
    )
    cli.add_detection_options(parser, conf=EVAL_CONF)
    parser.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="images per batch")
    parser.add_argument(
        "--workers",
        type=cli.worker_count,
        metavar="N",
        help="threads that read images (default: 2; with a GPU one per core); not used on a CPU with several threads: "
        "there each thread reads its own images",
    )
    cli.add_threads_option(parser)
    parser.add_argument("--json", metavar="FILE", help="write all metrics and the settings to this file")
    parser.add_argument("--save-detections", metavar="FILE", help="write the detections in COCO's results format")
    parser.add_argument(
        "--plots", action="store_true", help="draw curves, confusion matrix and the images with the most errors"
    )
    parser.add_argument("--output", default="runs/eval", metavar="DIR", help="folder in which --plots creates a folder")
    return parser


def main(options):
    from utils.dataset.index import open_list
    from utils.evaluation.compare import compare_models
    from utils.evaluation.detect import detect_images
    from utils.evaluation.evaluate import compute_metrics, warn_about_mismatch
    from utils.evaluation.report import metrics_text
    from utils.postprocess import Thresholds
    from utils.runtimes.loading import load_runtime

    config = read_config(options.data)
    check_options(options, config.model_name)
    thresholds = Thresholds(options.conf, options.iou, options.max_det)
    settings = {"batch_size": options.batch_size, "workers": options.workers, "thresholds": thresholds}
    index = open_list(config, "val")
    use_threads(options.threads)
    core_wait = CoreWait()
    if len(options.weights) > 1:
        print(compare_models(options.weights, config, index, **settings))
        print_busy_note(core_wait)
        return
    (weights,) = options.weights
    runtime = load_runtime(weights, config, options.device)
    label_count = sum(map(len, index.labels))
    images, objects = counted(len(index), "image"), counted(label_count, "object")
    at_once = f", {runtime.batches_at_once} batches at once" if runtime.batches_at_once > 1 else ""
    print(f"model    {weights} on {runtime.device_name}{at_once}, {config.width}x{config.height}")
    print(f"data     {images}, {objects}: {index.source}", flush=True)
    if not label_count:
        warn(f"{index.source}: no image has labels, so all metrics are undefined")
    detections = detect_images(runtime, index, config, **settings)
    evaluation = compute_metrics(detections, index, config)
    print(f"\n{metrics_text(evaluation)}", flush=True)
    print_busy_note(core_wait)
    if runtime.info is config:  # the model has no description
        warn_about_mismatch(evaluation, index, weights, config.path)
    for path in write_files(options, evaluation, index, config, runtime.device):
        print(f"wrote {path}")


def write_files(options, evaluation, index, config, device):
    """Write the files that the options ask for; return their paths."""
    from utils.dataset.coco_json import describe_ids
    from utils.evaluation.report import metrics_content
    from utils.evaluation.write_plots import write_plots
    from utils.plots.fonts import class_labels

    written = []
    if options.json:
        made_with = {name: getattr(options, name) for name in ("conf", "iou", "max_det", "batch_size")}
        content = metrics_content(evaluation, index, config, options.weights[0], device, made_with)
        write_text(options.json, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        written.append(options.json)
    if options.save_detections:
        write_text(options.save_detections, json.dumps(evaluation.results) + "\n")
        print(f"\n{options.save_detections}: {describe_ids(index.images, config.class_names)}")
        written.append(options.save_detections)
    if options.plots:
        folder = new_folder(options.output, config.model_name)
        written += write_plots(folder, evaluation, config, index, class_labels(config.class_names))
    return written


def print_busy_note(core_wait):
    if note := core_wait.note():
        print(f"\n{note}")


def check_options(options, model_name):
    """Check before the evaluation that the options can be combined and the output files can be written."""
    files = [path for path in (options.json, options.save_detections) if path]
    if len(options.weights) > 1 and (files or options.plots):
        raise InputError("--json, --save-detections and --plots: expected one weights file, got several")
    if options.plots:
        require("matplotlib", "--plots")
    if len(options.weights) > 1 and options.device not in ("auto", "cpu"):
        raise InputError(f"--device {options.device}: expected auto or cpu, because models are compared on the CPU")
    if len({os.path.realpath(path) for path in files}) < len(files):
        raise InputError(f"--json and --save-detections: expected two files, got {files[0]} for both")
    for path in files:
        check_writable(path)
    if options.plots:
        new_folder(options.output, model_name).rmdir()


if __name__ == "__main__":
    cli.run(build_parser(), main)
