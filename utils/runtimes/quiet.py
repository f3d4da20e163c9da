"""Hide the output of libraries that cannot be told to be quiet."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def no_output() -> Iterator[None]:
    """Hide everything that is written to the file descriptors of stdout and stderr, in all threads."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nothing, descriptor)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor, copied in zip((1, 2), saved, strict=True):
            os.dup2(copied, descriptor)
            os.close(copied)
        os.close(nothing)
