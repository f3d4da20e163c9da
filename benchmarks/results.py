"""Write benchmarks/RESULTS.md from the JSON files that the other benchmarks have written to benchmarks/results/.

python3 benchmarks/against_original.py … --output benchmarks/results/against_original.json
python3 benchmarks/latency.py … --output benchmarks/results/latency.json
python3 benchmarks/frame_path.py … --output benchmarks/results/frame_path.json
python3 benchmarks/startup.py … --output benchmarks/results/startup.json
python3 benchmarks/busy.py … --output benchmarks/results/busy.json
python3 benchmarks/gpu.py … --output benchmarks/results/gpu.json
python3 benchmarks/peers.py … --output benchmarks/results/peers.json
python3 benchmarks/results.py
"""

import json
from pathlib import Path

from utils import cli

FOLDER = Path(__file__).resolve().parent / "results"
RESULTS = FOLDER.parent / "RESULTS.md"
NAMES = ("against_original", "latency", "frame_path", "startup", "busy", "gpu", "peers")

HEAD = """# Speed and memory

`python3 benchmarks/results.py` writes this file from the JSON files in `benchmarks/results/`. The script with the same
name wrote each of them; its first lines say how to run it. Values are medians, with the lowest and highest round in
brackets (for latencies: the quartiles). The two sides of each ratio were measured in one run, in turns."""


def main(options):
    from utils.errors import InputError
    from utils.files import write_text

    if not any((FOLDER / f"{name}.json").exists() for name in NAMES):
        raise InputError(f"{FOLDER}: expected JSON files of the other benchmarks, found none")
    parts = [HEAD]
    for name in NAMES:
        path = FOLDER / f"{name}.json"
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            versions = ", ".join(f"{package} {version}" for package, version in content["versions"].items())
            parts += [
                TABLES[name](content["metrics"]),
                f"`{name}.py`, {content['date']}: {content['machine']}; {versions}.",
            ]
    write_text(RESULTS, "\n\n".join(parts) + "\n")
    print(f"wrote {RESULTS}")


def table(title, head, rows):
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def spread(values, places=2):
    return f"{values['median']:.{places}f} ({values['low']:.{places}f} to {values['high']:.{places}f})"


def against_original(measured):
    rows = []

    def add(name, task, side, key, places, higher_is_better):
        ours, theirs = measured[task][side][key], measured[task]["original"][key]
        ratio = ours["median"] / theirs["median"]
        text = f"{ratio:.2f}" if higher_is_better else f"{ratio:.2f}, or 1 / {1 / ratio:.1f}"
        rows.append([name, spread(ours, places), spread(theirs, places), text])

    if "train" in measured:
        for side, recipe in (("ours", "the original's recipe"), ("ours, default recipe", "the default recipe")):
            add(f"training, {recipe}, images per second", "train", side, "images/s", 1, True)
            add("as a share of the sgemm peak", "train", side, "share of the sgemm peak", 3, True)
            add("largest resident memory, MiB", "train", side, "MiB", 0, False)
    if "evaluate" in measured:
        add("evaluation, seconds", "evaluate", "ours", "seconds", 2, False)
    if "postprocess" in measured:
        add("post-processing of 32 images, ms", "postprocess", "ours", "milliseconds", 2, False)
    return table("Against the original's own code, two cores", ["", "here", "original", "ratio"], rows)


def latency(measured):
    first = next(iter(measured))
    rows = [
        [f"`{name}`", *(with_quartiles(values) for values in by_threads.values())]
        for name, by_threads in measured.items()
    ]
    title = f"The network alone: milliseconds, ratio to `{first}` (the original's released files in NCNN)"
    return table(title, ["", *(name.replace("1 threads", "1 thread") for name in measured[first])], rows)


def with_quartiles(values):
    low, high = values["quartiles"]
    return f"{values['median']:.2f} ({low:.2f} to {high:.2f}), {values['ratio']:.3f}"


def frame_path(measured):
    rows = [[name, f"{value:.3f}"] for name, value in measured.items() if name != "share"]
    rows.append(["everything but the network, as a share of its time", f"{measured['share']:.2f}"])
    return table("One frame in test.py, from its pixels to the image with boxes: milliseconds", ["", ""], rows)


def startup(measured):
    rows = [[f"`{name}`", spread(values), f"{values['ratio']:.2f}"] for name, values in measured.items()]
    title = "Whole processes: seconds, ratio to the three imports (test.py) or to `import torch` (the rest)"
    return table(title, ["", "seconds", "ratio"], rows)


def busy(measured):
    columns = next(iter(measured["tasks"].values())).keys()
    rows = [[task, *(f"{value:.2f}" for value in values.values())] for task, values in measured["tasks"].items()]
    competing, cores = measured["competing"], measured["cores"]
    title = f"A busy machine: {competing} competing processes on {cores} cores; images/s and ratios"
    return table(title, ["", *(name.removesuffix(", images/s") for name in columns)], rows)


def gpu(measured):
    rows = [
        [
            str(row["batch"]),
            row["form"],
            f"{row['step alone, images/s']:,.0f}",
            f"{row['with data, images/s']:,.0f}",
            f"{row['busy']:.2f}",
            f"{row['peak memory without the images, GiB']:.2f}",
        ]
        for row in sorted(measured["rows"], key=lambda row: (row["batch"], row["form"]))
    ]
    head = ["batch", "step", "step alone, images/s", "with data, images/s", "GPU busy", "memory, GiB"]
    return table(f"Training on a GPU: {measured['device']}", head, rows)


def peers(measured):
    detectors = measured["detectors"]
    first = next(iter(detectors.values()))["ms"]
    rows = [
        [f"`{name}`", f"{row['AP50']:.3f}", f"{row['AP']:.3f}", f"{row['ms']:.2f}", f"{row['ms'] / first:.2f}"]
        for name, row in detectors.items()
    ]
    title = f"Small detectors: {measured['images']} COCO images, NCNN on one thread"
    return table(title, ["", "AP50", "AP", "ms", "ratio"], rows)


TABLES = {
    "against_original": against_original,
    "latency": latency,
    "frame_path": frame_path,
    "startup": startup,
    "busy": busy,
    "gpu": gpu,
    "peers": peers,
}


if __name__ == "__main__":
    cli.run(cli.parser(__doc__), main)
