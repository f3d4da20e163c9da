"""Speed and memory of finding anchors, against a plain Python loop over the boxes.

    python3 benchmarks/anchors_kmeans.py
    python3 benchmarks/anchors_kmeans.py --boxes 860000 --clusters 6 --seed 0

As many boxes as COCO's training set has, drawn from a distribution like COCO's, are clustered to convergence from
one start. The loop runs the same algorithm for the same number of iterations on the first few thousand of them;
times are compared per box and iteration. Exit status 1 when a target is missed.
"""

import math
import sys
import time

from utils import cli
from utils.errors import RunError

TARGET_RATIO = 100
TARGET_GIB = 2
RUNS = 3  # the best time of so many counts, on both sides


def main(options):
    sizes = coco_like_sizes(options.boxes, options.seed)
    subset = sizes[: options.subset]
    # On both sides everything that `cluster` does for one start is in the time: sorting, drawing, iterating.
    fast_s, (_, iterations, _) = best_time(by_blocks, sizes, options.clusters, options.seed)
    fast = fast_s / (len(sizes) * iterations)
    _, (few_centres, few_iterations, few_start) = best_time(by_blocks, subset, options.clusters, options.seed)
    slow_s, _ = best_time(by_loop, subset.tolist(), few_start.tolist(), iterations)
    slow = slow_s / (len(subset) * iterations)
    same = abs(few_centres - by_loop(subset.tolist(), few_start.tolist(), few_iterations)).max()
    memory = peak_gib()

    print(f"{len(sizes)} boxes, {options.clusters} clusters, seed {options.seed}")
    print(f"converged after {iterations} iterations in {fast_s:.2f} s: {fast * 1e9:.1f} ns a box and iteration")
    print(f"loop, {len(subset)} boxes, as many iterations, {slow_s:.2f} s: {slow * 1e9:.0f} ns a box and iteration")
    print(f"both on those {len(subset)} boxes: centres differ by {same:.1e} px after {few_iterations} iterations")
    print(f"ratio {slow / fast:.0f} (target {TARGET_RATIO}), peak memory {memory:.2f} GiB (target below {TARGET_GIB})")
    if same > 1e-6:
        raise RunError("the loop came to other centres")
    if slow / fast < TARGET_RATIO or memory >= TARGET_GIB:
        raise RunError("a target is missed")


def best_time(function, *arguments):
    """(seconds, result) of the fastest of RUNS calls."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        result = function(*arguments)
        times.append(time.perf_counter() - begin)
    return min(times), result


def by_blocks(sizes, clusters, seed):
    """One start of the project's k-means: ([k, 2] centres, iterations, [k, 2] start)."""
    import numpy as np

    from utils import anchors

    distinct, counts = anchors.distinct_sizes(sizes)
    start = anchors.start_centres(distinct, counts, clusters, np.random.default_rng(seed))
    centres, iterations = anchors.lloyd(anchors.Blocks(distinct, counts), start)
    return centres, iterations, start


def by_loop(sizes, centres, iterations):
    """The same algorithm as one writes it down: a loop over boxes, in it a loop over centres."""
    boxes = [(width, height, math.log(width), math.log(height)) for width, height in sizes]
    for _ in range(iterations):
        totals = [[0, 0.0, 0.0] for _ in centres]
        for width, height, log_width, log_height in boxes:
            best, best_iou = 0, -1.0
            for index, (centre_width, centre_height) in enumerate(centres):
                intersection = min(width, centre_width) * min(height, centre_height)
                iou = intersection / (width * height + centre_width * centre_height - intersection)
                if iou > best_iou:
                    best, best_iou = index, iou
            total = totals[best]
            total[0] += 1
            total[1] += log_width
            total[2] += log_height
        centres = [[math.exp(log_width / n), math.exp(log_height / n)] for n, log_width, log_height in totals]
    return centres


def coco_like_sizes(count, seed):
    """Box sizes [count, 2] in pixels at 352×352, spread like COCO's.

    Log-normal in side and in aspect. In the images' own pixels (here all 640×480) 41 % of COCO's boxes are
    smaller than 32² and 24 % larger than 96² (Lin et al. 2014, cocodataset.org), which fixes the side's two numbers.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    side = random.lognormal(3.73, 1.18, count)
    stretch = random.lognormal(0, 0.3, count)  # square root of width : height
    image = np.array([640, 480])
    pixels = np.minimum(np.stack((side * stretch, side / stretch), 1), image).clip(1)
    return np.round(pixels * 352 / image, 2)


def peak_gib():
    """Most memory this process has had, libraries included."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 30 if sys.platform == "darwin" else 1 << 20)  # bytes there, KiB elsewhere


if __name__ == "__main__":
    arguments = cli.parser("Speed and memory of finding anchors.", ["python3 benchmarks/anchors_kmeans.py"])
    arguments.add_argument("--boxes", type=cli.positive_int, default=860_000, help="boxes to cluster")
    arguments.add_argument("--subset", type=cli.positive_int, default=5_000, help="of them, boxes for the loop")
    arguments.add_argument("--clusters", type=cli.positive_int, default=6, help="number of anchors")
    arguments.add_argument("--seed", type=cli.natural_int, default=0, help="of the boxes and the start")
    cli.run(arguments, main)
