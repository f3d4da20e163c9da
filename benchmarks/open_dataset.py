"""How long opening a large data set takes: the first time, when all is read, and again, from the cache.

    python3 benchmarks/open_dataset.py
    python3 benchmarks/open_dataset.py --images 10000 --windows

A list of small generated images with labels is made in a temporary folder, which is removed at the end.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.cli import parser, run


def main(options):
    import statistics
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source = make_dataset(Path(folder), options.images, options.windows)
        print(f"{options.images} images, {options.images * 7} boxes, in folders of 1000")
        first, index = timed_open(source)
        print(f"first time, everything read: {first:6.2f} s ({options.images / first:.0f} images/s)")
        size = source.with_name(source.name + ".cache").stat().st_size
        again = [timed_open(source)[0] for _ in range(options.repeats)]
        print(
            f"again, from the cache:       {statistics.median(again):6.2f} s median of {len(again)}, "
            f"{min(again):.2f} to {max(again):.2f} s; cache {size / 2**20:.1f} MiB"
        )
        assert len(index) == options.images
    print("the generated data set has been removed; nothing else was written")


def timed_open(source):
    """(seconds, index) of opening a list."""
    import time

    from utils.dataset_index import load_index

    start = time.perf_counter()
    index = load_index(source, classes=80)
    return time.perf_counter() - start, index


def make_dataset(folder, count, windows):
    """Write `count` images of 64×48 pixels with seven boxes each, and the list that names them."""
    import cv2
    import numpy as np
    from tqdm import tqdm

    rng = np.random.default_rng(0)
    picture = cv2.imencode(".jpg", rng.integers(0, 256, (48, 64, 3), np.uint8))[1].tobytes()
    names = []
    for number in tqdm(range(count), "writing images", unit="image", disable=None):
        parent = folder / "images" / f"{number // 1000:04d}"
        if number % 1000 == 0:
            parent.mkdir(parents=True)
            (folder / "labels" / parent.name).mkdir(parents=True)
        name = f"{number:012d}"
        (parent / f"{name}.jpg").write_bytes(picture)
        boxes = rng.uniform(0.2, 0.4, (7, 4))
        lines = [f"{number % 80} " + " ".join(f"{value:.6f}" for value in box) for box in boxes]
        (folder / "labels" / parent.name / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names.append(f"images/{parent.name}/{name}.jpg")
    source = folder / "train.txt"
    text = "\n".join(names) + "\n"
    source.write_text(text.replace("/", "\\") if windows else text, encoding="utf-8")
    return source


if __name__ == "__main__":
    arguments = parser(__doc__.split("\n", 1)[0], ["python3 benchmarks/open_dataset.py --images 100000"])
    arguments.add_argument("--images", type=int, default=100_000, help="how many to generate")
    arguments.add_argument("--repeats", type=int, default=5, help="times to open it again")
    arguments.add_argument("--windows", action="store_true", help="write the list with \\ in its paths")
    run(arguments, main)
