"""SIGINT (Ctrl-C) and SIGTERM as a request to stop, which the training loop checks between steps."""

import os
import signal
from types import FrameType

from utils.training.distributed import is_main


class StopRequest:
    """Context manager in which the first signal only sets `signal_number`. A second Ctrl-C stops the program at once.

    Schedulers, container runtimes and torchrun end programs with SIGTERM.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._handlers = {}

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> "StopRequest":
        self._handlers = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        if not self and is_main():
            # print is not safe here: the signal may have interrupted another print.
            os.write(2, b"\nstopping soon; press Ctrl-C again to stop at once\n")
        self.signal_number = number
