"""Measure the latency of the network alone: exported files, the original's released files, other small detectors.

    python3 benchmarks/latency.py --models model.ncnn.param model-int8.ncnn.param model.onnx \\
        --reference yolo-fastestv2-opt.param --others ncnn/benchmark/models --output latency.json

All models run in turns, with one image each, on one thread and on two. Ratios are relative to --reference, a .param
file with its .bin file next to it, or to the first model. --others is the folder of NCNN's own benchmark models; as in
that benchmark, their weights are zeros, which takes the same time. The input is random and already converted to floats.
"""

from pathlib import Path

from utils import cli

WARM_UP = 10
THREADS = (1, 2)
# {model of NCNN's benchmark: input size in pixels}
OTHERS = {"FastestDet": 352, "yolo-fastest-1.1": 320, "nanodet_m": 320}


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument(
        "--models",
        nargs="+",
        default=(),
        metavar="FILE",
        help=".onnx, .ncnn.param or .tflite files that pytorch2onnx.py wrote",
    )
    parser.add_argument("--reference", metavar="FILE", help=".param file that ratios are relative to")
    parser.add_argument("--others", metavar="DIR", help="folder with the .param files of NCNN's benchmark")
    parser.add_argument("--size", type=cli.positive_int, default=352, metavar="N", help="input size of the reference")
    parser.add_argument("--runs", type=cli.positive_int, default=200, metavar="N", help="runs per model")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write")
    return parser


def main(options):
    import statistics

    from result_file import write_results

    from utils.errors import InputError

    if not (options.models or options.reference or options.others):
        raise InputError("expected models to measure (--models, --reference or --others), got none")
    names = [Path(path).name for path in (options.reference, *options.models) if path]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--models: expected files with different names, got {name} twice")
    rows = {}
    for threads in THREADS:
        for name, times in measure(open_all(options, threads), options.runs).items():
            quartiles = statistics.quantiles(times, n=4)
            rows.setdefault(name, {})[f"{threads} threads"] = {"median": quartiles[1], "quartiles": quartiles[::2]}
    first = next(iter(rows))
    print(f"network alone: milliseconds (median of {options.runs}, quartiles), ratio to {first}")
    for name, columns in rows.items():
        cells = []
        for threads, values in columns.items():
            values["ratio"] = values["median"] / rows[first][threads]["median"]
            low, high = values["quartiles"]
            cells.append(f"{values['median']:7.2f} ({low:.2f} to {high:.2f}) x {values['ratio']:.3f}")
        print(f"{name:34}" + "   ".join(cells))
    if options.output:
        write_results(options.output, rows)


def open_all(options, threads):
    """Return {name: function that runs the model once}."""
    runs = {}
    if options.reference:
        path = Path(options.reference)
        runs[path.name] = ncnn_run(path, path.with_suffix(".bin"), options.size, threads)
    for model in options.models:
        if model.endswith(".onnx"):
            runs[Path(model).name] = onnx_run(model, threads)
        elif model.endswith(".tflite"):
            runs[Path(model).name] = tflite_run(model, threads)
        else:
            from utils.runtimes.loading import load_runtime
            from utils.runtimes.ncnn_format import bin_path

            width = load_runtime(model).info.width
            runs[Path(model).name] = ncnn_run(Path(model), bin_path(model), width, threads)
    if options.others:
        for name, size in OTHERS.items():
            runs[name] = ncnn_run(Path(options.others, f"{name}.param"), None, size, threads)
    return runs


def tflite_run(path, threads):
    """Return a function that computes all outputs of a .tflite file, as float32."""
    import numpy as np

    from utils.runtimes.loading import load_runtime

    runtime = load_runtime(path)
    runtime.set_threads(threads)
    shape = (1, runtime.info.height, runtime.info.width, 3)
    prepared = runtime.prepare(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    return lambda: runtime.execute(prepared)


def ncnn_run(param, weights, size, threads):
    """Return a function that computes all outputs of an NCNN model; without `weights` they are zeros."""
    import ncnn
    import numpy as np

    from utils.errors import InputError

    net = ncnn.Net()
    net.opt.num_threads = threads
    for path in filter(None, (param, weights)):
        if not path.is_file():
            raise InputError(f"{path}: expected a file of an NCNN model, found none")
    source = ncnn.DataReaderFromEmpty() if weights is None else str(weights)
    if net.load_param(str(param)) or net.load_model(source):
        raise InputError(f"{param}: expected an NCNN model, got a file that NCNN cannot load")
    pixels = np.random.default_rng(0).random((3, size, size), np.float32)
    mat = ncnn.Mat(pixels).clone()
    entry, outputs = net.input_names()[0], net.output_names()

    def run():
        extractor = net.create_extractor()
        extractor.set_light_mode(True)
        extractor.input(entry, mat)
        for name in outputs:
            extractor.extract(name)

    run.net = net  # keeps the network alive as long as the function
    return run


def onnx_run(model, threads):
    """Return a function that runs an ONNX model."""
    import numpy as np

    from utils.runtimes.onnx_runtime import OnnxRuntime

    runtime = OnnxRuntime(model)
    runtime.set_threads(threads)
    shape = (1, 3, runtime.info.height, runtime.info.width)
    prepared = np.random.default_rng(0).random(shape, np.float32)
    return lambda: runtime.execute(prepared)


def measure(runs, count):
    """Run all models in turns; return {name: milliseconds of each run}."""
    import time

    times = {name: [] for name in runs}
    for turn in range(WARM_UP + count):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


if __name__ == "__main__":
    cli.run(build_parser(), main)
