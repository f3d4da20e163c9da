"""Reading text files, resolving paths that files name, and writing files atomically."""

import codecs
import contextlib
import itertools
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from utils.errors import InputError

_INT_DIGITS = 18  # Python refuses to convert thousands of digits
_STEM_BYTES, _RANDOM_LENGTH = 230, 8  # parts of the names of temporary files; a name may have 255 bytes
MAX_PATH = 4096  # characters; more are a mistake
MAX_BYTES = 2**31  # of a file that is read completely


def read_bytes(path: Path | str) -> bytes:
    """Read a whole file.

    Raises:
        InputError: the file is missing, a folder or a device, not readable, or has more than MAX_BYTES.
    """
    try:
        status = os.stat(path)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise InputError(f"{path}: expected a file, got a pipe or a device")
        if status.st_size > MAX_BYTES:
            raise InputError(f"{path}: expected a file of at most {MAX_BYTES:,} bytes, got {status.st_size:,}")
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error


def read_text(path: Path | str) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark; line ends become `\\n`.

    Raises:
        InputError: as `read_bytes`, or the file is not UTF-8.
    """
    content = read_bytes(path)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        message = f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x} at offset {error.start}"
        if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            message += "; this is UTF-16, as PowerShell writes it: save the file as UTF-8 (Out-File -Encoding utf8)"
        raise InputError(message) from error


def parse_json(text: str, source: Path | str) -> object:
    """Parse JSON that is not trusted. A whole number of more than 18 digits becomes a float, which may be infinite.

    Args:
        source: where the text comes from, for messages.

    Raises:
        InputError: not JSON, or nested too deep.
    """
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _INT_DIGITS else float(digits))
    except json.JSONDecodeError as error:
        raise InputError(f"{source}:{error.lineno}: expected JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise InputError(f"{source}: expected JSON, got lists that are nested too deep") from error


def find_path(text: str, folders: Sequence[Path | str]) -> Path:
    """Resolve a path that was read from a file. A relative path is searched in `folders`, in order.

    A name with Windows separators is also tried with `/`. If no file exists, the first candidate is returned, so that
    an error can name it.
    """
    spellings = [text] if "\\" not in text else [text, text.replace("\\", "/")]
    candidates = []
    for spelling in spellings:
        with contextlib.suppress(ValueError):  # a NUL
            spelling = os.path.expanduser(spelling)  # unlike Path.expanduser, keeps `~name` of an unknown user
        path = Path(spelling)
        candidates += [path] if path.is_absolute() else [Path(folder) / path for folder in folders]
    for candidate in candidates:
        if os.path.exists(candidate):  # unlike Path.exists, False if the name is too long or access is denied
            return candidate
    return candidates[0]


@contextlib.contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `target`. It replaces `target` if the block succeeds, or else is removed.

    The folder is created if it is missing. Example:

        with atomic_path("weights/best.pth") as path:
            torch.save(state, path)

    Raises:
        InputError: the folder cannot be created or written to, or `target` is a folder or a device.
    """
    target = Path(target)
    temporary = _create_temporary(target)
    try:
        yield temporary
        # mkstemp creates files that only their owner may read; the result gets the permissions of the user's umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def unfinished_files(folder: Path) -> list[tuple[Path, str]]:
    """List the temporary files of `atomic_path` in a folder. They remain if a process is killed.

    Returns:
        (path, name of the file that it would have replaced). Of a long name only the first characters are known.
    """
    found = []
    for path in folder.glob(".*"):
        stem, separator, random = path.stem.rpartition("-")
        if separator and len(random) == _RANDOM_LENGTH and path.is_file():
            found.append((path, stem[1:] + path.suffix))
    return found


def unfinished_name(target: Path) -> str:
    """Return the name that `unfinished_files` gives for a temporary file of `target`."""
    return _short_stem(target) + target.suffix


def _short_stem(target: Path) -> str:
    return os.fsencode(target.stem)[:_STEM_BYTES].decode(errors="ignore")


def check_writable(target: Path | str) -> None:
    """Check, before work that takes long, that `atomic_path(target)` will succeed. Everything created is removed again.

    Raises:
        InputError: as `atomic_path`.
    """
    missing = [folder for folder in Path(target).parents if not os.path.exists(folder)]  # the innermost first
    try:
        _create_temporary(Path(target)).unlink()
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):  # not created, or another process has written to it
                folder.rmdir()


def _create_temporary(target: Path) -> Path:
    """Create an empty file in the folder of `target`, and the folder if it is missing."""
    # As root, os.replace would replace a device such as /dev/null by a file.
    if os.path.exists(target) and not target.is_file():
        raise InputError(f"{target}: expected a file to write, got a folder or a device")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept, because image and plot writers choose the format by it.
        handle, name = tempfile.mkstemp(prefix=f".{_short_stem(target)}-", suffix=target.suffix, dir=target.parent)
    except FileExistsError as error:
        raise InputError(f"{target}: cannot write there: {error.filename} is a file") from error
    except OSError as error:
        raise InputError(f"{target}: cannot write there: {error.strerror}") from error
    os.close(handle)
    return Path(name)


def write_text(target: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def new_folder(parent: Path | str, name: str) -> Path:
    """Create and return `parent/name`, or `parent/name-2`, `-3`, … so that no earlier result is overwritten.

    Raises:
        InputError: the folder cannot be created.
    """
    for count in itertools.count(1):
        folder = Path(parent) / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not Path(parent).is_dir():
                raise InputError(f"{parent}: expected a folder to write to, got a file") from None
        except OSError as error:
            raise InputError(f"{folder}: cannot create this folder: {error.strerror}") from error
