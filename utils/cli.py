"""The command line of all scripts: help format, argument types, error messages."""

import argparse
import contextlib
import importlib.util
import math
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from utils.config import DEFAULT_CONF, DEFAULT_IOU, MAX_COUNT, MAX_DETECTIONS, MAX_RATE
from utils.errors import InputError, RunError
from utils.machine import limit_spinning
from utils.text import printable, shorten

MAX_WORKERS = 256
INTERRUPTED = 130  # exit status after Ctrl-C


def parser(description: str) -> argparse.ArgumentParser:
    """Create a parser whose help shows the docstring of a script unchanged, and the default of each option."""
    return argparse.ArgumentParser(description=description, formatter_class=_HelpFormatter)


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" and "(default: False)" tell the user nothing.
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def run(arguments: argparse.ArgumentParser, main: Callable[[argparse.Namespace], int | None]) -> None:
    """Parse the command line, call `main` with all options except --debug, and exit.

    The exit status is the return value of `main` (None is 0); 2 for an InputError, 1 for a RunError or any unexpected
    error, 130 for Ctrl-C. An error is printed in one line; with `--debug` the traceback comes first.
    """
    arguments.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = arguments.parse_args()
    debug = vars(options).pop("debug")
    limit_spinning()
    # Class and file names may have characters that the encoding of the terminal does not have.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if getattr(options, "data", None):
            options.data = _import_data(options.data)
        status = main(options) or 0
        sys.stdout.flush()
    except (InputError, RunError) as error:
        status = _report(error, str(error), debug, 2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt as error:
        status = _report(error, "interrupted", debug, INTERRUPTED)
    except BrokenPipeError:
        # The reader of the pipe has exited (`… | head`). Python must not flush into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        status = _report(error, f"{where}{error.strerror or error}", debug, 1)
    except Exception as error:
        status = _report(error, _describe_unexpected(error, debug), debug, 1)
    sys.exit(status)


def _describe_unexpected(error: Exception, debug: bool) -> str:
    """Describe an unexpected error: a package of requirements.txt is missing, or there is a bug."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if importlib.util.find_spec(package) is None:  # otherwise, a module in an installed package is missing
            return f"{package} is not installed: pip install -r requirements.txt"
    hint = "" if debug else " (this is a bug; --debug shows where)"
    return f"{type(error).__name__}: {error}{hint}"


def _import_data(data: str | Path) -> str | Path:
    """Return the .data file that --data names; a folder, data.yaml or obj.data is imported on first use."""
    path = Path(data)
    if path.suffix == ".data" and path.is_file():
        from utils.convert.yolo_files import read_description

        is_source = read_description(path) is not None
    else:
        is_source = path.is_dir() or (path.is_file() and path.suffix.lower() in (".yaml", ".yml", ".zip"))
    if not is_source:
        return data
    from utils.convert.importer import import_once

    return type(data)(import_once(path))


def _report(error: BaseException, message: str, debug: bool, status: int) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"error: {printable(message)}", file=sys.stderr)
    return status


def add_detection_options(arguments: argparse.ArgumentParser, conf: float | None) -> None:
    """Add --conf, --iou, --max-det and --device.

    Args:
        conf: default of --conf; None: the threshold stored with the weights.
    """
    add = arguments.add_argument
    stored = f" (default: the threshold stored with the weights, or else {DEFAULT_CONF:g})" if conf is None else ""
    add("--conf", type=fraction, default=conf, help=f"keep detections with a score above this{stored}")
    add(
        "--iou",
        type=fraction,
        default=DEFAULT_IOU,
        help="if two boxes of a class have an IoU above this, keep only the one with the higher score",
    )
    add(
        "--max-det",
        type=positive_int,
        default=MAX_DETECTIONS,
        metavar="N",
        help="keep the N best detections per image",
    )
    add("--device", default="auto", help="device that runs the network: auto, cpu, cuda, cuda:1, …")


def add_threads_option(arguments: argparse.ArgumentParser, default: str = "one per core") -> None:
    """Add --threads; `default` describes what happens without it."""
    arguments.add_argument("--threads", type=thread_count, metavar="N", help=f"CPU threads (default: {default})")


def fraction(text: str) -> float:
    """argparse type: a number from 0 to 1."""
    return _parse(text, float, lambda value: 0 <= value <= 1, "a number from 0 to 1")


def positive_float(text: str) -> float:
    """argparse type: a number above 0, at most MAX_RATE."""
    return _parse(text, float, lambda value: 0 < value <= MAX_RATE, f"a number above 0, at most {MAX_RATE:g}")


def _whole_number(text: str, lowest: int, highest: int) -> int:
    """Convert the text of an option to a whole number from `lowest` to `highest`."""
    expected = f"a whole number from {lowest} to {highest:,}"
    return _parse(text, int, lambda value: lowest <= value <= highest, expected)


positive_int = partial(_whole_number, lowest=1, highest=MAX_COUNT)
natural_int = partial(_whole_number, lowest=0, highest=2**32 - 1)  # the seeds that every random generator accepts
worker_count = partial(_whole_number, lowest=0, highest=MAX_WORKERS)
thread_count = partial(_whole_number, lowest=1, highest=MAX_WORKERS)


def _parse(text: str, kind: type, is_valid: Callable[[float], bool], expected: str) -> int | float:
    """Convert the text of an option to a number, and check it."""
    value = math.nan  # not valid: every comparison with it is False
    with contextlib.suppress(ValueError):
        value = kind(text)
    if not is_valid(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {shorten(text, 80)!r}")
    return value
