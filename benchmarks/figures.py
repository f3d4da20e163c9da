"""What the benchmarks write their figures to: JSON files that say which machine and versions made them."""

import json
import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "onnxruntime", "ncnn")


def write_figures(path, figures):
    """Write figures with what made them; says so.

    Args:
        path: of the JSON file.
        figures: what JSON can hold.
    """
    from utils.files import write_text

    content = {"machine": machine(), "date": date.today().isoformat(), "versions": versions(), "figures": figures}
    write_text(Path(path), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {path}")


def machine():
    """Processor and number of cores, as text."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def versions():
    """{package: version} of those that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
