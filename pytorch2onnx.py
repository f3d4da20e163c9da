"""Export a checkpoint to ONNX and NCNN, in float32, float16 and int8, and check what comes out.

    python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx
    python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx --ncnn --int8 --evaluate
    python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx --end2end --conf 0.25

The .onnx file goes to --output, the others beside it: model.ncnn.param, model.ncnn.bin and model.json, and with
--int8 model-int8.onnx and the like.
"""

from utils import cli


def build_parser():
    parser = cli.parser(
        "Export a checkpoint to ONNX, and to NCNN and int8 if asked for, and check what comes out.",
        [
            "python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx",
            "python3 pytorch2onnx.py --data data/coco.data --weights W.pth --output model.onnx --ncnn --int8",
        ],
    )
    parser.add_argument("--data", required=True, metavar="FILE", help=".data file that the weights go with")
    parser.add_argument("--weights", required=True, metavar="FILE", help="weights; released ones are downloaded")
    parser.add_argument(
        "--output", default="model.onnx", metavar="FILE", help="the .onnx file; others are named after it"
    )
    parser.add_argument("--opset", type=int, default=13, metavar="N", help="version of ONNX's operators, 11 to 20")
    parser.add_argument("--dynamic-batch", action="store_true", help="any number of images a run (default: one)")
    parser.add_argument("--dynamic-size", action="store_true", help="any size that is a multiple of 32")
    parser.add_argument("--end2end", action="store_true", help="decoding and suppression inside: one output [n, 6]")
    parser.add_argument("--half", action="store_true", help="the .onnx file in float16; input and output in float32")
    parser.add_argument(
        "--ncnn", nargs="?", const="fp16", choices=("fp16", "fp32"), help="also for NCNN, stored in float16 or float32"
    )
    parser.add_argument("--int8", action="store_true", help="also in int8: for ONNX Runtime, and NCNN with --ncnn")
    parser.add_argument("--calib", metavar="LIST", help="images to calibrate int8 with (default: the train list)")
    parser.add_argument(
        "--calib-images", type=cli.positive_int, default=64, metavar="N", help="first images of it that are used"
    )
    parser.add_argument("--conf", type=cli.fraction, default=0.3, help="score threshold that the files carry")
    parser.add_argument("--iou", type=cli.fraction, default=0.4, help="overlap threshold that the files carry")
    parser.add_argument(
        "--evaluate", action="store_true", help="measure the checkpoint and all files: AP on the val list, latency"
    )
    return parser


def main(options):
    import tempfile

    from utils.config import read_config
    from utils.dataset.index import open_list
    from utils.dataset.shapes import prepare
    from utils.evaluation.compare import compare_models
    from utils.export.exporter import Exporter
    from utils.export.plan import check_options, make_all

    check_options(options)
    config = prepare(read_config(options.data))
    index = open_list(config, "val") if options.evaluate else None
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        exporter = Exporter(config, options.weights, options.output, options.conf, options.iou, folder)
        written = make_all(exporter, options)
    if options.evaluate:
        print()
        print(compare_models([options.weights, *written], config, index))


if __name__ == "__main__":
    cli.run(build_parser(), main)
