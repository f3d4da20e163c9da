"""Tune glibc malloc for repeated large allocations, and pause Python's garbage collector."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning it to the system. Do nothing with other C libraries.

    Each training step and each evaluated batch allocates the same large tensors again. By default the system
    fills new pages with zeros for each of them, which takes one third of the time of a step.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * 2**20)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Pause the garbage collector, which visits all of PyTorch's objects after ten thousand new small ones."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
