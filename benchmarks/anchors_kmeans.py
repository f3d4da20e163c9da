"""Measure speed and memory of the anchor k-means against a plain Python loop over the boxes.

    python3 benchmarks/anchors_kmeans.py
    python3 benchmarks/anchors_kmeans.py --boxes 860000 --clusters 6 --seed 0

Draws as many boxes as COCO's training set has, from a similar distribution, and clusters them from one start until
convergence. The loop runs the same algorithm for the same number of iterations on the first few thousand boxes.
Times are compared per box and iteration. The exit status is 1 if a target is missed.
"""

import argparse
import math
import sys
import time

from utils import cli
from utils.errors import RunError

TARGET_RATIO = 30
TARGET_GIB = 2
RUNS = 3  # the best time of RUNS calls is reported, for both sides


def main(options: argparse.Namespace) -> None:
    sizes = coco_like_sizes(options.boxes, options.seed)
    subset = sizes[: options.subset]
    # Both times include everything that `cluster` does for one start: sorting, drawing the start, iterating.
    numpy_s, (_, iterations, _) = best_time(run_numpy, sizes, options.clusters, options.seed)
    numpy_ns = numpy_s / (len(sizes) * iterations) * 1e9
    _, (subset_centers, subset_iterations, start) = best_time(run_numpy, subset, options.clusters, options.seed)
    loop_s, _ = best_time(run_loop, subset.tolist(), start.tolist(), iterations)
    loop_ns = loop_s / (len(subset) * iterations) * 1e9
    difference = abs(subset_centers - run_loop(subset.tolist(), start.tolist(), subset_iterations)).max()
    ratio, memory = loop_ns / numpy_ns, peak_gib()

    print(f"{len(sizes)} boxes, {options.clusters} clusters, seed {options.seed}")
    print(f"converged after {iterations} iterations in {numpy_s:.2f} s: {numpy_ns:.1f} ns per box and iteration")
    print(f"loop, {len(subset)} boxes, equal iterations, {loop_s:.2f} s: {loop_ns:.0f} ns per box and iteration")
    print(f"both on {len(subset)} boxes: centers differ by {difference:.1e} px after {subset_iterations} iterations")
    print(f"ratio {ratio:.0f} (target {TARGET_RATIO}), peak memory {memory:.2f} GiB (target below {TARGET_GIB})")
    if difference > 1e-6:
        raise RunError(f"centers of both: expected a difference below 1e-6 px, got {difference:.1e}")
    if ratio < TARGET_RATIO or memory >= TARGET_GIB:
        raise RunError("a target is missed")


def best_time(function, *arguments):
    """Return (seconds, result) of the fastest of RUNS calls."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        result = function(*arguments)
        times.append(time.perf_counter() - begin)
    return min(times), result


def run_numpy(sizes, clusters, seed):
    """Run the project's k-means from one start: [k, 2] centers, iterations, [k, 2] start."""
    import numpy as np

    from utils.anchors import distinct_sizes, lloyd, start_centers

    distinct, counts = distinct_sizes(sizes)
    start = start_centers(distinct, counts, clusters, np.random.default_rng(seed))
    return *lloyd(distinct, counts, start), start


def run_loop(sizes, centers, iterations):
    """Run the same algorithm as a loop over boxes and, inside it, a loop over centers."""
    boxes = [(width, height, math.log(width), math.log(height)) for width, height in sizes]
    for _ in range(iterations):
        totals = [[0, 0.0, 0.0] for _ in centers]
        for width, height, log_width, log_height in boxes:
            best, best_iou = 0, -1.0
            for index, (center_width, center_height) in enumerate(centers):
                intersection = min(width, center_width) * min(height, center_height)
                iou = intersection / (width * height + center_width * center_height - intersection)
                if iou > best_iou:
                    best, best_iou = index, iou
            total = totals[best]
            total[0] += 1
            total[1] += log_width
            total[2] += log_height
        centers = [[math.exp(log_width / n), math.exp(log_height / n)] for n, log_width, log_height in totals]
    return centers


def coco_like_sizes(count, seed):
    """Draw box sizes [count, 2] in pixels at 352x352 with a distribution like COCO's.

    Log-normal in side and in aspect ratio. In image pixels, 41 % of COCO's boxes are smaller than 32² and 24 %
    larger than 96² (Lin et al. 2014, cocodataset.org); the side's two parameters follow. Images are 640x480 here.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    side = random.lognormal(3.73, 1.18, count)
    stretch = random.lognormal(0, 0.3, count)  # square root of width / height
    image = np.array([640, 480])
    pixels = np.minimum(np.stack((side * stretch, side / stretch), 1), image).clip(1)
    return np.round(pixels * 352 / image, 2)


def peak_gib():
    """Return the peak memory of this process in GiB, including its libraries."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)  # bytes on macOS, KiB elsewhere


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--boxes", type=cli.positive_int, default=860_000, help="number of boxes to cluster")
    parser.add_argument("--subset", type=cli.positive_int, default=5_000, help="number of boxes for the Python loop")
    parser.add_argument("--clusters", type=cli.positive_int, default=6, help="number of anchors")
    parser.add_argument("--seed", type=cli.natural_int, default=0, help="seed of the boxes and of the start")
    cli.run(parser, main)
