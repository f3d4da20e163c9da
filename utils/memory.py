"""How a process keeps the memory that it will need again, and when it looks for what nobody needs."""

import contextlib
import ctypes
import gc
import sys

# Numbers of mallopt's parameters in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory():
    """Let glibc keep what is freed instead of giving it back to the system; elsewhere nothing happens.

    A training step, or a batch of an evaluation, allocates the same large tensors again and again. By default each
    comes from the system as fresh pages, which it fills with zeros one by one: a third of a step's time.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * 2**20)


@contextlib.contextmanager
def without_collector():
    """Python's search for garbage goes through all of PyTorch's objects, for each ten thousand small ones made here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
