"""The two kinds of errors that a script reports in one line, and warnings."""

import sys

from utils.text import printable

MAX_WARNINGS = 10  # of one kind


class InputError(ValueError):
    """The user's input cannot be used: a file, a line in it, an option. Exit status 2.

    The message names the file and line, what was read and what was expected.
    """


class RunError(RuntimeError):
    """The input was valid but the run failed: disk full, loss not finite, no network. Exit status 1."""


def warn(message: str, count: int = 1) -> None:
    """Print one `warning: …` line to standard error; standard output is for results.

    Args:
        count: number of warnings of this kind so far, including this one. Only the first MAX_WARNINGS are printed.
    """
    if count <= MAX_WARNINGS:
        more = " (more such warnings are not shown)" if count == MAX_WARNINGS else ""
        print(f"warning: {printable(message)}{more}", file=sys.stderr)
