"""Measure a detector on the val list of a .data file.

    python3 evaluation.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth
    python3 evaluation.py --data data/coco.data --weights W.pth --json metrics.json --plots
    python3 evaluation.py --data data/coco.data --weights W.pth --save-detections detections.json
    python3 evaluation.py --data data/coco.data --weights W.pth model.onnx model.ncnn.param

One pass gives two answers: the original's definition, so that published figures can be compared, and
pycocotools' twelve COCO figures with a table a class. Of several weights files, one line each is printed, with
size and latency.
"""

from utils import cli


def main(options):
    from utils.config import read_config
    from utils.dataset.index import open_list
    from utils.errors import warn
    from utils.evaluation.detect import detect_images
    from utils.evaluation.files import check_files, write_files
    from utils.evaluation.metrics import measure
    from utils.evaluation.report import class_table, figures_table
    from utils.runtimes.loading import load_runtime

    config = read_config(options.data)
    if len(options.weights) > 1:
        return compare(options, config)
    options.weights = options.weights[0]
    check_files(options, config)
    runtime = load_runtime(options.weights, config, options.device)
    index = open_list(config, "val")
    print(f"model    {options.weights} on {runtime.device_name}, {config.width}x{config.height}")
    objects = sum(map(len, index.labels))
    print(f"data     {len(index)} images, {objects} objects: {config.val}", flush=True)
    if not objects:
        warn(f"{config.val}: no object is labelled, so no figure is defined")
    limits = {"conf": options.conf, "iou": options.iou, "max_det": options.max_det}
    detections = detect_images(runtime, index, config, options.batch_size, options.workers, **limits)
    evaluation = measure(detections, index, (config.width, config.height), config.class_names)

    original = evaluation.original
    print(
        f"\nPrecision:{original.precision:.6f} Recall:{original.recall:.6f} "
        f"AP:{original.ap:.6f} F1:{original.f1:.6f}   (the original's definition)\n"
    )
    print(figures_table(evaluation.coco.figures), end="\n\n")
    print(class_table(evaluation.coco))
    for path in write_files(evaluation, options, config, index, runtime.device):
        print(f"wrote {path}")


def compare(options, config):
    """Measure several models, a line each."""
    from utils.dataset.index import open_list
    from utils.errors import InputError
    from utils.evaluation.compare import evaluate_all

    if options.json or options.save_detections or options.plots:
        raise InputError("--json, --save-detections and --plots: expected one weights file, got several")
    limits = {"conf": options.conf, "iou": options.iou, "max_det": options.max_det}
    index = open_list(config, "val")
    print(evaluate_all(options.weights, config, index, options.batch_size, options.workers, **limits))


def build_parser():
    parser = cli.parser(
        "Measure a detector on the val list of a .data file: the original's figures and COCO's.",
        ["python3 evaluation.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth"],
    )
    parser.add_argument("--data", required=True, metavar="FILE", help=".data file with val list, classes and anchors")
    parser.add_argument(
        "--weights",
        required=True,
        nargs="+",
        metavar="FILE",
        help=".pth, .onnx or .ncnn.param; released weights are downloaded; several are compared",
    )
    parser.add_argument("--conf", type=cli.fraction, default=0.01, help="detections must score above this")
    parser.add_argument("--iou", type=cli.fraction, default=0.4, help="overlap above which the weaker box is dropped")
    parser.add_argument("--max-det", type=cli.positive_int, default=300, metavar="N", help="best detections an image")
    parser.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="images a batch")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, …")
    parser.add_argument(
        "--workers",
        type=cli.natural_int,
        default=2,
        metavar="N",
        help="threads that read images; on a CPU, those that PyTorch computes in read them",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures and how they were made")
    parser.add_argument("--save-detections", metavar="FILE", help="write the detections in COCO's results format")
    parser.add_argument("--plots", action="store_true", help="draw curves and the confusion matrix")
    parser.add_argument("--output", default="runs/eval", metavar="DIR", help="folder for the folder of plots")
    return parser


if __name__ == "__main__":
    cli.run(build_parser(), main)
