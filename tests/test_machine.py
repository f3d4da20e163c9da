"""Keeping freed memory."""

import contextlib
import gc
import platform
import subprocess
import sys

import pytest

from utils import memory

# Page faults of freeing and taking the same 40 MB twenty times.
FAULTS = """
import ctypes, resource, sys
from utils.memory import keep_freed_memory
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
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory.keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "linux")

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    memory.keep_freed_memory()


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with contextlib.suppress(ValueError), memory.without_collector():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
