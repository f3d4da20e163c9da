"""Compiling this folder's C++ for the machine that it runs on.

It is compiled anew by every process that wants it, which takes a second or two: so there is nothing stale, nothing of
another processor, and nothing to install. Without a compiler the caller does without.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
COMPILERS = ("c++", "g++", "clang++")
# Not -ffast-math: what is not a number has to stay so.
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
_TIMEOUT = 120  # seconds


class BuildError(Exception):
    """No compiler, or none that can compile the files; says why in one line."""


def build(*names):
    """Compile files of this folder side by side and load them as one library.

    It is linked without an OpenMP library of its own and so uses PyTorch's, whose threads are there already: a second
    pool of threads would get in their way.

    Args:
        names: of the files.
    Returns:
        ctypes.CDLL.
    Raises:
        BuildError.
    """
    import torch  # noqa: F401  its OpenMP library must be there first

    asked = os.environ.get("CXX")
    compiler = next(filter(None, map(shutil.which, (asked,) if asked else COMPILERS)), None)
    if compiler is None:
        raise BuildError(f"no C++ compiler ({asked or ', '.join(COMPILERS)})")
    with tempfile.TemporaryDirectory() as folder:
        parts, library = [Path(folder, f"{name}.o") for name in names], Path(folder, "library.so")
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name, part: _run(compiler, *OPTIONS, "-c", FOLDER / name, "-o", part), names, parts))
        _run(compiler, "-shared", *parts, "-o", library)
        try:
            return ctypes.CDLL(library)
        except OSError as error:
            raise BuildError(f"{compiler} compiled {', '.join(names)}, but it does not load: {error}") from error


def _run(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]}: {lines[0] if lines else f'exit status {done.returncode}'}")
