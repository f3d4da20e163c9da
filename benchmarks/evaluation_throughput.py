"""How much of the network's own speed an evaluation reaches, from image files to both definitions' figures.

    python3 benchmarks/evaluation_throughput.py --data data/coco.data --weights modelzoo/coco2017-0.241078ap-model.pth

The bare forward pass (the same images, in batches of the same size, ready in memory) and evaluation.py's whole work
after its imports (reading the .data file, weights, labels and images, network, post-processing, figures) take turns in
one process, so that whatever else the machine does slows both.
"""

from utils import cli


def main(options):
    from utils.dataset.shapes import prepare
    from utils.runtimes.loading import load_runtime

    config = prepare(read_data(options.data))
    runtime = load_runtime(options.weights, config, options.device)
    batches = read_all(config, options)
    images = sum(len(batch) for batch in batches)
    print(f"{images} images in batches of {options.batch_size}")
    print(f"{runtime.device_name}, {config.width}x{config.height}, median of {options.repeats} (lowest to highest)")

    bare, parts = [], []
    for number in range(options.repeats + 1):
        seconds, evaluation = time_bare(runtime, batches), time_evaluation(options)
        if number:  # the first turn warms up
            bare.append(seconds)
            parts.append(evaluation)
    whole = [sum(seconds.values()) for seconds in parts]
    print(f"bare forward pass  {spread([images / seconds for seconds in bare], 1)} images/s")
    print(f"end to end         {spread([images / seconds for seconds in whole], 1)} images/s")
    for name in parts[0]:
        print(f"  {name:17}{spread([seconds[name] for seconds in parts], 2)} s")
    print(f"end to end / bare  {spread([b / w for b, w in zip(bare, whole, strict=True)], 2)}")
    print("nothing was written")


def read_data(path):
    """The Config of a .data file that has a val list."""
    from utils.config import read_config
    from utils.errors import InputError

    config = read_config(path)
    if config.val is None:
        raise InputError(f"{config.path}: val: expected a list of images, got None")
    return config


def read_all(config, options):
    """All images of the val list as batches [N, H, W, 3] uint8."""
    from utils.dataset.dataset import DetectionDataset
    from utils.dataset.index import load_index
    from utils.dataset.prefetch import read_batches

    dataset = DetectionDataset(load_index(config.val, config.classes), config.width, config.height)
    return [images.permute(0, 2, 3, 1) for images, _ in read_batches(dataset, options.batch_size, options.workers)]


def time_bare(runtime, batches):
    """Seconds that the network alone takes, its input ready on the device."""
    # Above a score of 1 there is nothing to post-process.
    return sum(runtime.predict_timed(images, conf=1, iou=1)[1].network for images in batches)


def time_evaluation(options):
    """Seconds of each part of what evaluation.py does after its imports."""
    import time

    from utils.dataset.index import load_index
    from utils.evaluation.detect import detect_images
    from utils.evaluation.metrics import compute_metrics
    from utils.runtimes.loading import load_runtime

    times = [time.perf_counter()]
    config = read_data(options.data)
    runtime = load_runtime(options.weights, config, options.device)
    times.append(time.perf_counter())
    index = load_index(config.val, config.classes)
    times.append(time.perf_counter())
    detections = detect_images(runtime, index, config, options.batch_size, options.workers)
    times.append(time.perf_counter())
    compute_metrics(detections, index, (config.width, config.height), config.class_names)
    times.append(time.perf_counter())
    names = ("weights", "labels", "images to boxes", "figures")
    return {name: end - start for name, start, end in zip(names, times[:-1], times[1:], strict=True)}


def spread(values, places):
    """Median, lowest and highest as text."""
    import statistics

    return f"{statistics.median(values):7.{places}f} ({min(values):.{places}f} to {max(values):.{places}f})"


if __name__ == "__main__":
    arguments = cli.parser(
        __doc__.split("\n", 1)[0],
        ["python3 benchmarks/evaluation_throughput.py --data data/coco.data --weights W.pth --repeats 9"],
    )
    arguments.add_argument("--data", required=True, metavar="FILE", help=".data file with a val list")
    arguments.add_argument("--weights", required=True, metavar="FILE", help="weights that fit it")
    arguments.add_argument("--batch-size", type=cli.positive_int, default=16, metavar="N", help="images a batch")
    arguments.add_argument("--workers", type=cli.natural_int, default=2, metavar="N", help="as in evaluation.py")
    arguments.add_argument("--device", default="auto", help="auto, cpu, cuda, …")
    arguments.add_argument("--repeats", type=cli.positive_int, default=7, metavar="N", help="turns that are measured")
    cli.run(arguments, main)
