"""Compare the speed of an evaluation, from image files to metrics, with the speed of the network alone.

    python3 benchmarks/evaluation_throughput.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth

The forward pass alone (same images, same batches, already in memory) and all work of evaluation.py after its imports
(reading the .data file, weights, labels and images, network, post-processing, metrics) run in turns in one process, so
that other programs on the machine slow down both.
"""

from utils import cli


def main(options):
    from utils.config import read_config
    from utils.runtimes.loading import load_runtime

    config = read_config(options.data)
    runtime = load_runtime(options.weights, config, options.device)
    batches = read_all(config, options)
    images = sum(len(batch) for batch in batches)
    print(f"{images} images in batches of {options.batch_size}")
    print(f"{runtime.device_name}, {config.width}x{config.height}, median of {options.repeats} (lowest to highest)")

    bare, parts = [], []
    for turn in range(options.repeats + 1):
        seconds, evaluation = time_bare(runtime, batches), time_evaluation(options)
        if turn:  # the first turn warms up
            bare.append(seconds)
            parts.append(evaluation)
    whole = [sum(seconds.values()) for seconds in parts]
    print(f"forward pass alone {spread([images / seconds for seconds in bare], 1)} images/s")
    print(f"end to end         {spread([images / seconds for seconds in whole], 1)} images/s")
    for name in parts[0]:
        print(f"  {name:17}{spread([seconds[name] for seconds in parts], 2)} s")
    print(f"end to end / alone {spread([b / w for b, w in zip(bare, whole, strict=True)], 2)}")
    print("no files were written")


def read_all(config, options):
    """Read all images of the val list as batches [N, H, W, 3] uint8."""
    from utils.dataset.index import open_list
    from utils.dataset.prefetch import read_batches

    size = config.size
    return list(read_batches(open_list(config, "val"), size, options.batch_size, options.workers))


def time_bare(runtime, batches):
    """Return the seconds of the network alone, with its input already on the device."""
    from utils.postprocess import Thresholds

    # No score is above 1, so there is nothing to post-process.
    return sum(runtime.predict_timed(images, Thresholds(conf=1))[1].network for images in batches)


def time_evaluation(options):
    """Do the work of evaluation.py after its imports; return {part: seconds}."""
    import time

    from utils.config import read_config
    from utils.dataset.index import open_list
    from utils.evaluation.detect import detect_images
    from utils.evaluation.evaluate import compute_metrics
    from utils.runtimes.loading import load_runtime

    times = [time.perf_counter()]
    config = read_config(options.data)
    runtime = load_runtime(options.weights, config, options.device)
    times.append(time.perf_counter())
    index = open_list(config, "val")
    times.append(time.perf_counter())
    detections = detect_images(runtime, index, config, options.batch_size, options.workers)
    times.append(time.perf_counter())
    compute_metrics(detections, index, config)
    times.append(time.perf_counter())
    names = ("weights", "labels", "images to boxes", "metrics")
    return {name: end - start for name, start, end in zip(names, times[:-1], times[1:], strict=True)}


def spread(values, places):
    """Format median, lowest and highest value."""
    import statistics

    return f"{statistics.median(values):7.{places}f} ({min(values):.{places}f} to {max(values):.{places}f})"


if __name__ == "__main__":
    arguments = cli.parser(__doc__)
    arguments.add_argument("--data", required=True, metavar="FILE", help=".data file with a val list")
    arguments.add_argument("--weights", required=True, metavar="FILE", help="weights for this .data file")
    arguments.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="images per batch")
    arguments.add_argument(
        "--workers", type=cli.worker_count, default=2, metavar="N", help="threads that read images, as in evaluation.py"
    )
    arguments.add_argument("--device", default="auto", help="device: auto, cpu, cuda, cuda:1, …")
    arguments.add_argument("--repeats", type=cli.positive_int, default=7, metavar="N", help="measured turns")
    cli.run(arguments, main)
