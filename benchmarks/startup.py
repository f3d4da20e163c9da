"""Measure how long the scripts take as whole processes, compared with Python that only imports the packages.

    python3 benchmarks/startup.py --data data/mask.data --weights modelzoo/mask-352.pth --img img/astronaut.jpg

test.py on one image is compared with importing torch, torchvision and cv2; each script's --help with importing torch.
All commands run in turns.
"""

import sys
from pathlib import Path

from utils import cli

SCRIPTS = ("train.py", "test.py", "evaluation.py", "genanchors.py", "pytorch2onnx.py")
PROJECT = Path(__file__).resolve().parents[1]


def build_parser():
    parser = cli.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="FILE", help=".data file of the weights")
    parser.add_argument("--weights", required=True, metavar="FILE", help="weights, as for test.py")
    parser.add_argument("--img", required=True, metavar="FILE", help="one image")
    parser.add_argument("--repeats", type=cli.positive_int, default=5, metavar="N", help="measured turns")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write")
    return parser


def main(options):
    import statistics

    from result_file import write_results

    given = []
    for name in ("data", "weights", "img"):
        given += [f"--{name}", str(Path(getattr(options, name)).resolve())]
    commands = {
        "import torch": ["-c", "import torch"],
        "import torch, torchvision, cv2": ["-c", "import torch, torchvision, cv2"],
        "test.py, one image": [str(PROJECT / "test.py"), *given],
        **{f"{script} --help": [str(PROJECT / script), "--help"] for script in SCRIPTS},
    }
    times = {name: [] for name in commands}
    for turn in range(1 + options.repeats):
        for name, command in commands.items():
            seconds = run(command)
            if turn:  # the first turn fills the system's caches
                times[name].append(seconds)
    measured = {}
    for name, values in times.items():
        base = "import torch, torchvision, cv2" if name.startswith("test.py, ") else "import torch"
        middle, low, high = statistics.median(values), min(values), max(values)
        measured[name] = {"median": middle, "low": low, "high": high, "ratio": middle / statistics.median(times[base])}
        print(f"{name:32}{middle:6.2f} s ({low:.2f} to {high:.2f}), x {measured[name]['ratio']:.2f} {base}")
    if options.output:
        write_results(options.output, measured)


def run(command):
    """Run one process in a temporary folder; return its seconds."""
    import subprocess
    import tempfile
    import time

    from utils.errors import RunError

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RunError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()[-300:]}")
    return seconds


if __name__ == "__main__":
    cli.run(build_parser(), main)
