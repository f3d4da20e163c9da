"""Export weights to ONNX, NCNN and TFLite, in float32, float16 and int8, and compare the result with PyTorch.

    python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx
    python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx --ncnn --int8 --evaluate
    python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx --end2end --conf 0.25

The other files are written next to the .onnx file: model.ncnn.param, model.ncnn.bin and model.json, and model.tflite.
--int8 also writes these files as model-int8.*.
"""

from utils import cli
from utils.config import DEFAULT_CONF, DEFAULT_IOU


def build_parser():
    parser = cli.parser(__doc__)
    add = parser.add_argument
    add(
        "--data",
        metavar="FILE",
        help=".data file that the weights were trained with; weights of train.py need it for --evaluate only",
    )
    add("--weights", required=True, metavar="FILE", help=".pth file; released weights are downloaded if missing")
    add("--output", default="model.onnx", metavar="FILE", help=".onnx file to write; other files are named after it")
    add("--opset", type=cli.positive_int, default=11, metavar="N", help="version of the ONNX operators, 11 to 20")
    add("--dynamic-batch", action="store_true", help="let the model accept any batch size (default: 1)")
    add("--dynamic-size", action="store_true", help="let the model accept any input size that is a multiple of 32")
    add("--end2end", action="store_true", help="include decoding and NMS in the .onnx file; it outputs detections")
    add("--half", action="store_true", help="store the .onnx file in float16; input and output stay in float32")
    add(
        "--ncnn",
        nargs="?",
        const="fp16",
        choices=("fp16", "fp32"),
        help="also export to NCNN, with weights in float16 (if no value is given) or float32",
    )
    add(
        "--tflite",
        nargs="?",
        const="fp32",
        choices=("fp32", "int8"),
        help="also export to TFLite, in float32 (if no value is given) or in int8, also for microcontrollers",
    )
    add(
        "--int8",
        action="store_true",
        help="also export an int8 model for ONNX Runtime, for NCNN with --ncnn, and for TFLite with --tflite",
    )
    add("--calib", metavar="LIST", help="list or folder of images to calibrate int8 with (default: the train list)")
    add("--calib-images", type=cli.positive_int, default=64, metavar="N", help="use the first N images of this list")
    add(
        "--conf",
        type=cli.fraction,
        help=f"score threshold to store in the exported files (default: that of the weights, else {DEFAULT_CONF:g})",
    )
    add("--iou", type=cli.fraction, default=DEFAULT_IOU, help="IoU threshold of NMS to store in the exported files")
    cli.add_threads_option(parser)
    add("--evaluate", action="store_true", help="measure AP and latency of the .pth file and of all exported models")
    return parser


def main(options):
    from dataclasses import fields

    from utils.config import read_config
    from utils.dataset.index import open_list
    from utils.errors import InputError
    from utils.evaluation.compare import compare_models
    from utils.export.exporter import ExportOptions, export
    from utils.machine import use_threads

    export_options = ExportOptions(**{entry.name: getattr(options, entry.name) for entry in fields(ExportOptions)})
    if options.end2end and options.evaluate:
        raise InputError("--evaluate: expected no --end2end, because AP needs all scores and NMS removes the low ones")
    if options.evaluate and not options.data:
        raise InputError("--evaluate: expected --data FILE with the val list, got none")
    use_threads(options.threads)
    config = read_config(options.data) if options.data else None
    index = open_list(config, "val") if options.evaluate else None
    models = [options.weights]
    for exported in export(config, export_options):
        print(exported, flush=True)
        models.append(exported.files[0])
    if options.evaluate:
        print()
        print(compare_models(models, config, index))


if __name__ == "__main__":
    cli.run(build_parser(), main)
