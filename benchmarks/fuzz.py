"""Read damaged and hostile files: each must be accepted, or refused with one clear error.

    python3 benchmarks/fuzz.py
    python3 benchmarks/fuzz.py --kind param --count 2000 --seed 7

A failure is any other error, a file that takes more than 10 seconds or 1 GB of memory, or a process that ends. Failing
files are kept in tests/fuzz_corpus/KIND/, which each run, and tests/benchmarks/test_fuzz.py, reads first.
"""

import functools
import hashlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from utils import cli

PROJECT = Path(__file__).resolve().parents[1]
CORPUS = PROJECT / "tests" / "fuzz_corpus"
MAX_SECONDS = 10
MAX_BYTES = 2**30  # of memory, in addition to that at the start
MAX_MESSAGE = 2000  # characters
MAX_KEPT = 200_000  # bytes of a failing file
TOKENS = (
    *(b"-1", b"0", b"1e400", b"-1e400", b"NaN", b"Infinity", b"1" + b"0" * 30, b"2147483648", b"9" * 5000, b"0.5"),
    *(b"\0", b"\n", b"\r", b" ", b"\t", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"\x1b[31m"),
    *(b'"', b"'", b"{", b"}", b"[" * 100_000, b"]", b"<", b">", b"&a;", b"../", b"/dev/zero", b"~", b"null"),
    *("٣".encode(), b"x" * 5000, b"*a", b"&a ", b"=", b","),
)


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append", help="kind of files (default: all)")
    parser.add_argument("--count", type=cli.positive_int, metavar="N", help="files per kind (default: see the table)")
    parser.add_argument("--seed", type=cli.natural_int, default=0, help="seed of the changes")
    return parser


def main(options):
    from utils.text import align_columns

    rows = [["kind", "files", "accepted", "refused", "failures", "slowest, s", "memory, MiB"]]
    failures = 0
    print(f"seed {options.seed}")
    for kind in options.kind or KINDS:
        outcome = fuzz(kind, options.count or KINDS[kind].count, options.seed)
        failures += len(outcome["failures"])
        counts = (outcome["accepted"], outcome["refused"], len(outcome["failures"]))
        rows.append([kind, *map(str, (sum(counts), *counts)), f"{outcome['slowest']:.2f}", f"{outcome['memory']:.0f}"])
        for path, problem in outcome["failures"][:20]:
            print(f"{path}: {problem}", file=sys.stderr)
    print(align_columns(rows))
    return 1 if failures else 0


def fuzz(kind, count, seed, corpus=CORPUS):
    """Read the corpus of a kind and `count` changed files; return {"accepted", "refused", "failures", …}."""
    from tqdm import tqdm

    file_kind = KINDS[kind]
    outcome = {"accepted": 0, "refused": 0, "failures": [], "slowest": 0.0, "memory": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        kept = [path.read_bytes() for path in sorted((corpus / kind).glob("*"))]
        inputs = Inputs(file_kind.make(folder), kept, count, seed)
        with tqdm(desc=kind, total=inputs.total, disable=None) as bar:
            while inputs.number < inputs.total:
                _read_in_child(file_kind.read, folder / file_kind.file, inputs, outcome, bar)
    outcome["failures"] = [(_keep(corpus / kind, content), problem) for content, problem in outcome["failures"]]
    return outcome


class Inputs:
    """The files of a kind in a fixed order: first the corpus, then changed contents."""

    def __init__(self, contents, kept, count, seed):
        self.contents, self.kept, self.total, self.number = contents, kept, len(kept) + count, 0
        self.generator = random.Random(seed)

    def next(self):
        self.number += 1
        if self.number <= len(self.kept):
            return self.kept[self.number - 1]
        return change(self.contents, self.generator)


def _read_in_child(read, path, inputs, outcome, bar):
    """Read files in a forked process until it ends."""
    receiver, sender = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(receiver)
            _run_child(read, path, inputs, sender)
        finally:
            os._exit(1)  # after an error, this copy of the process must not return to the caller
    os.close(sender)
    # This process goes through the same inputs, to know which one has failed.
    with os.fdopen(receiver, encoding="utf-8") as lines:
        for line in lines:
            result, seconds, memory, problem = line.rstrip("\n").split("\t", 3)
            content = inputs.next()
            bar.update()
            outcome["slowest"] = max(outcome["slowest"], float(seconds))
            outcome["memory"] = max(outcome["memory"], float(memory))
            if result == "failure":
                outcome["failures"].append((content, problem))
            else:
                outcome[result] += 1
    _, status = os.waitpid(process, 0)
    if status:
        problem = f"the process ended with status {os.waitstatus_to_exitcode(status)}"
        outcome["failures"].append((inputs.next(), problem))
        bar.update()


def _run_child(read, path, inputs, sender):
    """Read the remaining files, write one line per file to `sender`, and end the process."""

    def stop(*_):
        raise TimeoutError(f"more than {MAX_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    base = _peak_memory()
    while inputs.number < inputs.total:
        content = inputs.next()
        started = time.perf_counter()
        result, problem = read_one(read, path, content)
        seconds, memory = time.perf_counter() - started, _peak_memory() - base
        if memory > MAX_BYTES:
            result, problem = "failure", f"{memory / 2**20:.0f} MiB of memory"
        line = f"{result}\t{seconds:.3f}\t{memory / 2**20:.0f}\t{' '.join(problem.split())}\n"
        os.write(sender, line.encode("utf-8", "backslashreplace"))
        if memory > MAX_BYTES:
            break  # a new process counts its memory from the start
    os._exit(0)


def read_one(read, path, content):
    """Read one content; return "accepted", "refused" or "failure", and the problem."""
    from utils.errors import InputError, RunError

    try:
        path.write_bytes(content)
        try:
            signal.alarm(MAX_SECONDS)
            read(path)
        finally:
            signal.alarm(0)  # the alarm may still be raised here
    except (InputError, RunError) as error:
        if "\n" in str(error) or len(str(error)) > MAX_MESSAGE:
            return "failure", f"an error of several lines or more than {MAX_MESSAGE:,} characters"
        return "refused", ""
    except BaseException as error:
        return "failure", f"{type(error).__name__}: {str(error)[:200]}"
    return "accepted", ""


def _peak_memory():
    """Return the largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def change(contents, generator):
    """Return one of the valid contents with a few random changes."""
    content = bytearray(generator.choice(contents))
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8))):
        start = generator.randrange(len(content) + 1)
        end = min(len(content), start + generator.choice((0, 1, 1, 2, 5, 20, 100)))
        action = generator.randrange(6)
        if action == 0 and content:
            content[min(start, len(content) - 1)] ^= 1 << generator.randrange(8)
        elif action == 1:
            del content[start:end]
        elif action == 2:
            content[start:start] = content[start:end] * generator.choice((1, 2, 50))
        elif action == 3:
            other = generator.choice(contents)
            position = generator.randrange(len(other) + 1)
            content[start:end] = other[position : position + generator.choice((1, 10, 200))]
        else:
            content[start:end] = generator.choice(TOKENS)
    return bytes(content)


def _keep(folder, content):
    """Write a failing file to the corpus; return its path."""
    path = folder / hashlib.sha256(content).hexdigest()[:16]
    if len(content) <= MAX_KEPT:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def write_images(folder):
    """Write four small images with labels, and a list of them."""
    import cv2
    import numpy as np

    (folder / "images").mkdir(exist_ok=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels)
        (folder / "images" / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.2 0.{number + 1}\n")
    (folder / "list.txt").write_text("".join(f"images/{number}.png\n" for number in range(4)))
    (folder / "x.names").write_text("cat\nhot dog\n")


def make_labels(folder):
    return [
        b"0 0.5 0.5 0.25 0.125\n1 .1 .1 .05 .05\n",
        b"0 0.5 0.5 0.25 0.125 0.9\n",
        b"1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n",
        b"0 0.5 0.5 0.5 0.5 0.4 0.4 2 0.6 0.6 1\n",
    ]


def read_labels(path):
    from utils.dataset.labels import parse_labels
    from utils.files import read_text

    labels = parse_labels(read_text(path), 2).labels
    assert ((labels[:, 1:] >= 0) & (labels[:, 1:] <= 1)).all(), "labels outside the image"


def make_lists(folder):
    write_images(folder)
    return [(folder / "list.txt").read_bytes(), b"# images\nimages\\0.png\n\n./images/1.png\nmissing.jpg\n"]


def read_list(path):
    from utils.dataset.lists import list_images

    list_images(path)


def make_data(folder):
    write_images(folder)
    text = (PROJECT / "data" / "shapes.data").read_text(encoding="utf-8")
    lines = {"train": "list.txt", "val": "list.txt", "names": "x.names", "classes": "2"}
    for key, value in lines.items():
        text = "\n".join(f"{key}={value}" if line.startswith(f"{key}=") else line for line in text.split("\n"))
    return [text.encode()]


def read_data(path):
    from utils.config import read_config

    read_config(path)


def make_coco(folder):
    import json

    write_images(folder)
    images = [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 24} for n in range(4)]
    polygon = [[2, 3, 10, 3, 10, 9]]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [2, 3, 10, 8], "iscrowd": 0, "segmentation": polygon}
        for n in range(4)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "hot dog"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    return [json.dumps(content).encode(), json.dumps(content, indent=1).encode()]


def make_voc(folder):
    write_images(folder)
    (folder / "voc").mkdir()
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>11</ymax></bndbox>"
    text = (
        "<annotation><filename>0.png</filename><size><width>32</width><height>24</height><depth>3</depth></size>"
        f"<object><name>cat</name><difficult>0</difficult>{box}</object></annotation>"
    )
    return [text.encode(), f"<?xml version='1.0'?>\n{text}".encode()]


def import_annotations(path):
    """Import a COCO file, or the folder of a VOC file, as tools/import_dataset.py does."""
    import shutil

    from utils.convert.importer import import_dataset
    from utils.convert.options import ImportOptions

    source, folder = (path.parent, path.parents[1]) if path.suffix == ".xml" else (path, path.parent)
    shutil.rmtree(folder / "out", ignore_errors=True)
    import_dataset(ImportOptions(source=source, output=folder / "out", images=folder / "images"))


def make_yaml(folder):
    write_images(folder)
    return [
        b"path: .\ntrain: images\nval: images\nnc: 2\nnames: [cat, hot dog]\n",
        b"train: ../images\nnames:\n  0: cat\n  1: hot dog\n",
        b"a: &a [x, y]\nb: &b [*a, *a]\nnames: *a\ntrain: images\n",
    ]


def read_yaml(path):
    from utils.convert.yolo_files import read_description

    read_description(path)


def make_cache(folder):
    from utils.dataset.index import load_index

    write_images(folder)
    load_index(folder / "list.txt")
    return [(folder / "list.txt.cache").read_bytes()]


def read_cache(path):
    from utils.dataset.index import load_index

    index = load_index(path.with_suffix(""), 2)
    assert [len(labels) for labels in index.labels] == [1] * 4, "other labels than those in the files"


@functools.cache
def exported():
    """Return {name: content} of the files of an exported model."""
    from utils.export.exporter import ExportOptions, export

    weights = str(PROJECT / "modelzoo" / "shapes-352.pth")
    with tempfile.TemporaryDirectory() as folder:
        list(export(None, ExportOptions(weights=weights, output=str(Path(folder, "model.onnx")), ncnn="fp16")))
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def make_model(folder, name):
    for other, content in exported().items():
        (folder / other).write_bytes(content)
    return [exported()[name]]


def run_model(path):
    """Load an exported model, one of whose files is `path`, and run it on a black image."""
    import numpy as np

    from utils.postprocess import Thresholds
    from utils.runtimes.loading import load_runtime

    runtime = load_runtime(path if path.suffix == ".onnx" else path.with_name("model.ncnn.param"))
    runtime.predict(np.zeros((1, runtime.info.height, runtime.info.width, 3), np.uint8), Thresholds())


@dataclass(frozen=True)
class Kind:
    """A kind of files.

    Args:
        file: path of the file in a folder.
        make: writes what the file needs into a folder, and returns valid contents.
        read: reads the file at a path.
        count: changed files that are read by default.
    """

    file: str
    make: Callable
    read: Callable
    count: int = 10_000


def model_kind(name, count):
    return Kind(name, functools.partial(make_model, name=name), run_model, count)


KINDS = {
    "labels": Kind("labels.txt", make_labels, read_labels, 100_000),
    "list": Kind("changed.txt", make_lists, read_list),
    "data": Kind("changed.data", make_data, read_data),
    "coco": Kind("changed.json", make_coco, import_annotations),
    "voc": Kind("voc/0.xml", make_voc, import_annotations),
    "yaml": Kind("changed.yaml", make_yaml, read_yaml),
    "cache": Kind("list.txt.cache", make_cache, read_cache),
    "json": model_kind("model.json", 10_000),
    "param": model_kind("model.ncnn.param", 10_000),
    "bin": model_kind("model.ncnn.bin", 2_000),
    "onnx": model_kind("model.onnx", 2_000),
}


if __name__ == "__main__":
    cli.run(build_parser(), main)
