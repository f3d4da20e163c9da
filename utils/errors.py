"""The two kinds of errors that a script reports in one line, and warnings."""

import sys


class InputError(ValueError):
    """The user's input cannot be used: a file, a line in it, an option. Exit status 2.

    The message names the file and line, what was read and what was expected.
    """


class RunError(RuntimeError):
    """The input was valid but the run failed: disk full, loss not finite, no network. Exit status 1."""


def warn(message: str) -> None:
    """Print one `warning: …` line to standard error; standard output is for results."""
    print(f"warning: {message}", file=sys.stderr)
