"""Memory and threads of a process, and the wait for a core."""

import contextlib
import gc
import os
import platform
import subprocess
import sys

import pytest

from utils import machine

# Page faults of freeing and taking the same 40 MB twenty times.
FAULTS = """
import ctypes, resource, sys
from utils.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    block = libc.malloc(40_000_000)
    ctypes.memset(block, 1, 40_000_000)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
def test_the_same_pages_are_used_again(repo):
    def faults(what):
        command = [sys.executable, "-c", FAULTS, what]
        return int(subprocess.run(command, cwd=repo, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 100 < faults("default")


def test_other_systems_and_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    machine.keep_freed_memory()
    monkeypatch.setattr(machine.sys, "platform", "linux")

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(machine.ctypes, "CDLL", missing)
    machine.keep_freed_memory()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with contextlib.suppress(ValueError), machine.without_garbage_collection():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


RUN = """
import os, sys
from utils import cli
arguments = cli.parser("A script.")
cli.add_threads_option(arguments)
def main(options):
    from utils.machine import apply_threads, thread_count, use_threads
    use_threads(options.threads)
    count = thread_count()
    import torch
    apply_threads()
    assert thread_count() == count
    print(os.environ.get("GOMP_SPINCOUNT"), torch.get_num_threads())
cli.run(arguments, main)
"""


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({}, ("--threads", "3"), "3000 3"),
        ({"OMP_NUM_THREADS": "2"}, (), "3000 2"),
        ({"GOMP_SPINCOUNT": "7"}, ("--threads", "1"), "7 1"),
        ({"OMP_WAIT_POLICY": "active"}, ("--threads", "1"), "None 1"),
    ],
)
def test_scripts_limit_spinning_and_threads(repo, environment, arguments, expected):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", RUN, *arguments]
    result = subprocess.run(command, cwd=repo, env={**inherited, **environment}, capture_output=True, text=True)
    assert result.stdout.strip() == expected, result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how long a thread waits for a core")
def test_the_main_thread_waits_if_others_use_its_core(repo):
    """Two processes that share one core each wait half of the time."""
    script = """
import os, time
from utils.machine import CoreWait
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if os.fork():
    time.sleep(0.2)
    core_wait = CoreWait()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    print(core_wait.note())
else:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        pass
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=repo, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("the machine is busy")


def test_waiting_is_unknown_without_the_statistics_of_linux(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(machine.Path, "read_text", missing)
    assert machine.CoreWait().note() == ""
