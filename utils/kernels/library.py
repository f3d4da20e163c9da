"""Compile this folder's C++ for the machine it runs on, and call the compiled functions.

Each process compiles once, which takes one or two seconds. So the library is never outdated or built for another
processor, and there is nothing to install. Without a working compiler the caller uses PyTorch's layers instead.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from ctypes import c_float, c_int, c_long, c_void_p
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
COMPILERS = ("c++", "g++", "clang++")
# Not -ffast-math, which would not preserve NaN.
OPTIONS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
LAYOUT = torch.channels_last  # memory format of all tensors that the functions take
_TIMEOUT = 120  # seconds
_TENSORS, _SIZES = [c_void_p], [c_long]
# Argument types of each function, except the last argument: the count of threads.
_ARGUMENTS = {
    "batchnorm_forward": _TENSORS * 2 + _SIZES * 2 + _TENSORS * 6 + [c_float, c_float, c_int],
    "batchnorm_backward": _TENSORS * 2 + _SIZES * 2 + _TENSORS * 7 + [c_int],
    "batchnorm_pool_forward": _TENSORS * 3 + _SIZES * 4 + _TENSORS * 6 + [c_float, c_float],
    "batchnorm_pool_backward": _TENSORS * 3 + _SIZES * 4 + _TENSORS * 6,
    "depthwise_backward": _TENSORS * 5 + _SIZES * 4 + [c_int, c_int],
}


class BuildError(Exception):
    """There is no compiler, or it cannot compile the files; the message gives the reason in one line."""


@functools.cache
def get_kernels() -> ctypes.CDLL:
    """Return the compiled functions; compile them at the first call in a process, with $CXX if it is set.

    Raises:
        BuildError: there is no working compiler.
    """
    sources = [FOLDER / f"{name}.cpp" for name in ("batchnorm", "pooling", "depthwise")]
    library = compile_library(sources, os.environ.get("CXX"))
    for name, types in _ARGUMENTS.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [*types, c_int], None
    return library


def call_kernel(name: str, *arguments: torch.Tensor | float) -> None:
    """Call a compiled function with tensors and numbers, and as many threads as PyTorch uses."""
    values = (value.data_ptr() if isinstance(value, torch.Tensor) else value for value in arguments)
    getattr(get_kernels(), name)(*values, torch.get_num_threads())


def compile_library(sources: list[Path], compiler: str | None = None) -> ctypes.CDLL:
    """Compile C++ files in parallel and load them as one library.

    The library is not linked with OpenMP. It uses PyTorch's OpenMP library, which is already loaded, because two
    thread pools would compete for the cores.

    Args:
        compiler: name or path of the compiler; None for the first of COMPILERS that exists.

    Raises:
        BuildError: there is no compiler, it fails, or the library cannot be loaded.
    """
    command = next(filter(None, map(shutil.which, [compiler] if compiler else COMPILERS)), None)
    if command is None:
        raise BuildError(f"no C++ compiler ({compiler or ', '.join(COMPILERS)})")
    with tempfile.TemporaryDirectory() as folder:
        objects, library = [Path(folder, f"{source.name}.o") for source in sources], Path(folder, "library.so")
        with ThreadPoolExecutor(len(sources)) as pool:
            list(pool.map(lambda source, result: _run(command, *OPTIONS, "-c", source, "-o", result), sources, objects))
        _run(command, "-shared", *objects, "-o", library)
        try:
            return ctypes.CDLL(str(library))
        except OSError as error:
            raise BuildError(f"{command} compiled the kernels, but they cannot be loaded: {error}") from error


def _run(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]}: {lines[0] if lines else f'exit status {done.returncode}'}")
