"""Write the JSON files of the benchmarks: measured values, machine, date and package versions."""

import json
import os
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "onnxruntime", "ncnn", "ai-edge-litert")


def write_results(path, measured):
    """Write measured values (JSON types) with machine, date and package versions."""
    from utils.files import write_text

    content = {"machine": machine(), "date": date.today().isoformat(), "versions": versions(), "metrics": measured}
    write_text(Path(path), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"wrote {path}")


def machine():
    """Return processor, core count, system and Python version as text."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def versions():
    """Return {package: version} of the installed packages."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
