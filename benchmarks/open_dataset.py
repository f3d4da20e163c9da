"""Measure how long opening a large data set takes: the first time, when all files are read, and from the cache.

    python3 benchmarks/open_dataset.py
    python3 benchmarks/open_dataset.py --images 10000 --windows

Small images with labels and their list are generated in a temporary folder, which is removed at the end.
"""

from pathlib import Path

from utils.cli import parser, positive_int, run


def main(options):
    import statistics
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source = make_dataset(Path(folder), options.images, options.windows)
        first, _, index = timed_open(source)
        print(f"first time, all files read: {first:6.2f} s ({options.images / first:.0f} images/s)", flush=True)
        size = source.with_name(source.name + ".cache").stat().st_size
        again = [timed_open(source)[:2] for _ in range(options.repeats)]
        wall, processor = (statistics.median(times) for times in zip(*again, strict=True))
        print(
            f"again, from the cache:      {wall:6.2f} s, {processor:.2f} s of processor time, medians of "
            f"{options.repeats}, fastest {min(again)[0]:.2f} s; the cache has {size / 2**20:.1f} MiB",
            flush=True,
        )
        print(f"{len(index)} images, {sum(map(len, index.labels))} boxes")
    print("removed the generated data set; no other files were written")


def timed_open(source):
    """Open a list; return (seconds, seconds of processor time, index)."""
    import time

    from utils.dataset.index import load_index

    start, processor_start = time.perf_counter(), time.process_time()
    index = load_index(source, classes=80)
    return time.perf_counter() - start, time.process_time() - processor_start, index


def make_dataset(folder, count, windows):
    """Write `count` images of 64×48 pixels with seven boxes each, and their list; return the path of the list."""
    import cv2
    import numpy as np
    from tqdm import tqdm

    rng = np.random.default_rng(0)
    image = cv2.imencode(".jpg", rng.integers(0, 256, (48, 64, 3), np.uint8))[1].tobytes()
    names = []
    for index in tqdm(range(count), "writing images", unit="image", disable=None):
        parent = folder / "images" / f"{index // 1000:04d}"
        if index % 1000 == 0:
            parent.mkdir(parents=True)
            (folder / "labels" / parent.name).mkdir(parents=True)
        name = f"{index:012d}"
        (parent / f"{name}.jpg").write_bytes(image)
        boxes = rng.uniform(0.2, 0.4, (7, 4))
        lines = [f"{index % 80} " + " ".join(f"{value:.6f}" for value in box) for box in boxes]
        (folder / "labels" / parent.name / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        names.append(f"images/{parent.name}/{name}.jpg")
    source = folder / "train.txt"
    text = "\n".join(names) + "\n"
    source.write_text(text.replace("/", "\\") if windows else text, encoding="utf-8")
    return source


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=positive_int, default=100_000, help="images to generate")
    arguments.add_argument("--repeats", type=positive_int, default=5, help="times to open the list from the cache")
    arguments.add_argument("--windows", action="store_true", help="write the paths in the list with \\")
    run(arguments, main)
