"""Ctrl-C and SIGTERM as a wish to stop that a loop looks at when it suits it."""

import os
import signal

from utils.training.distributed import is_main


class Interrupt:
    """While it is entered, the first signal sets `number`; a second Ctrl-C stops at once, as usual.

    Schedulers, container runtimes and torchrun end programs with SIGTERM.
    """

    def __init__(self):
        self.number = None  # of the signal that came

    def __bool__(self):
        return self.number is not None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        if not self and is_main():
            # Not print: the signal may have come in the middle of one.
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")
        self.number = number
