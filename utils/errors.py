"""The two kinds of failure that a script reports in one line, and the warning line."""

import sys


class InputError(ValueError):
    """What the user gave cannot be used: a file, a line in it, an option. Exit status 2.

    The message names the file and line, what was read and what was expected.
    """


class RunError(RuntimeError):
    """The input was fine but the run failed: disk full, loss not finite, no network. Exit status 1."""


def warn(message):
    """Print one `warning: …` line to standard error; standard output stays for results."""
    print(f"warning: {message}", file=sys.stderr)
