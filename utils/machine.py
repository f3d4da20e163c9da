"""How a process uses the machine: memory, threads, and whether other programs compete for the cores."""

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_SPIN_COUNT = "3000"  # iterations of the waiting loop, a few microseconds
_BUSY_SHARE = 0.25  # a machine is busy if a thread waits for more than this share of the time
_wanted_threads: int | None = None


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
def without_garbage_collection() -> Iterator[None]:
    """Pause Python's garbage collector, which often visits all objects while many small ones are created."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def limit_spinning() -> None:
    """Let OpenMP's threads sleep after a few microseconds without work; call it before PyTorch or NCNN is imported.

    By default they keep a core busy while they wait for each other, which happens a thousand times per training step.
    If another program uses the core of the thread that they wait for, each wait takes milliseconds. Environment
    variables that the user has set have priority. Only GNU OpenMP reads this setting; PyTorch and NCNN use it on Linux.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)


def use_threads(count: int | None) -> None:
    """Use this many CPU threads in this process; None: one per core, or OMP_NUM_THREADS."""
    global _wanted_threads
    _wanted_threads = count
    apply_threads()


def apply_threads() -> None:
    """Set the number of threads of `use_threads` in PyTorch, if it is imported; call this after importing it."""
    torch = sys.modules.get("torch")
    if torch and _wanted_threads:
        torch.set_num_threads(_wanted_threads)


def thread_count() -> int:
    """Return how many CPU threads this process uses, see `use_threads`."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    environment = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    default = int(environment) if environment.isdecimal() and int(environment) else os.cpu_count()
    return _wanted_threads or default or 1


class CoreWait:
    """Measures how long the main thread has waited for a free core since this object was created.

    Linux counts this time (Documentation/scheduler/sched-stats.rst, /proc/PID/schedstat); elsewhere it is unknown.
    """

    def __init__(self) -> None:
        self._start = _run_and_wait()

    def note(self) -> str:
        """Return a text for the user if the machine is busy with other programs, else an empty text."""
        ran, waited = (now - then for now, then in zip(_run_and_wait(), self._start, strict=True))
        share = waited / (ran + waited) if waited else 0.0
        return f"the machine is busy: waited {share:.0%} of the time for a free core" if share > _BUSY_SHARE else ""


def _run_and_wait() -> tuple[int, int]:
    """Return the nanoseconds that the main thread has run, and has waited for a free core."""
    try:
        ran, waited, _ = Path("/proc/self/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(ran), int(waited)
