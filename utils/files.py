"""Finding the files that text files name, and writing files that are never half there."""

import contextlib
import os
import tempfile
from pathlib import Path

from utils.errors import InputError


def read_text(path):
    """Text of a UTF-8 file, with or without a byte-order mark, line ends as `\\n`.

    Raises:
        InputError: the file is missing, a folder, not readable or not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected UTF-8 text, got byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}") from error


def find_path(text, folders):
    """First existing path that `text` can mean: itself if absolute, else inside each of `folders` in turn.

    A name written with Windows separators is tried with `/` as well.

    Returns:
        Path: the first that exists; when none does, the first candidate, so that an error can name it.
    """
    spellings = [text] if "\\" not in text else [text, text.replace("\\", "/")]
    candidates = []
    for spelling in spellings:
        path = Path(os.path.expanduser(spelling))  # unlike Path's own, leaves the name of an unknown user as it is
        candidates += [path] if path.is_absolute() else [Path(folder) / path for folder in folders]
    for candidate in candidates:
        if os.path.exists(candidate):  # unlike Path's own, False for a name that is too long or not permitted
            return candidate
    return candidates[0]


@contextlib.contextmanager
def atomic_path(target):
    """A temporary path beside `target` that replaces it when the block ends well, and is removed when it does not.

    The folder is made if it is missing. Example:

        with atomic_path("weights/best.pth") as path:
            torch.save(state, path)

    Raises:
        InputError: the folder cannot be made or written to, or `target` is a folder or a device.
    """
    target = Path(target)
    temporary = _temporary_beside(target)
    try:
        yield temporary
        # mkstemp makes files that only their owner may read; the result follows the user's umask instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(target):
    """Find out whether `atomic_path(target)` will work, before long work whose result is to be written there.

    Raises:
        InputError: as `atomic_path`.
    """
    _temporary_beside(Path(target)).unlink()


def _temporary_beside(target):
    """A new empty file in the folder of `target`, which is made if it is missing."""
    # Replacing a device such as /dev/null would succeed for root and leave the machine without it.
    if os.path.exists(target) and not target.is_file():
        raise InputError(f"{target}: expected a file to write, got a folder or a device")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The suffix is kept because image and plot writers choose their format by it.
        handle, name = tempfile.mkstemp(prefix=f".{target.stem[:32]}-", suffix=target.suffix, dir=target.parent)
    except FileExistsError as error:
        raise InputError(f"{target}: cannot write there: {error.filename} is a file") from error
    except OSError as error:
        raise InputError(f"{target}: cannot write there: {error.strerror}") from error
    os.close(handle)
    return Path(name)


def write_text(target, text):
    """Write a UTF-8 text file atomically."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8")


def new_folder(parent, name):
    """Make and return `parent/name`, or `parent/name-2`, `-3`, … so that an earlier result is never overwritten.

    Raises:
        InputError: the folder cannot be made.
    """
    number = 1
    while True:
        folder = Path(parent) / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not Path(parent).is_dir():
                raise InputError(f"{parent}: expected a folder to write to, got a file") from None
            number += 1
        except OSError as error:
            raise InputError(f"{folder}: cannot make this folder: {error.strerror}") from error
