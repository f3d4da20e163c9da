"""Released weights that are not there yet: listed in modelzoo/manifest.json, downloaded, verified."""

import contextlib
import hashlib
import http.client
import json
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import torch.hub

from utils.errors import RunError
from utils.files import atomic_path, read_text

MANIFEST = Path(__file__).resolve().parents[2] / "modelzoo" / "manifest.json"
TIMEOUT = 30  # seconds without an answer or without a byte


class ListedFile(NamedTuple):
    name: str  # file name, by which it is recognised in any folder
    about: str
    url: str
    size: int  # bytes
    sha256: str  # 64 hexadecimal digits


def read_manifest(path=MANIFEST):
    """{file name: ListedFile} of the weights that can be downloaded."""
    return {entry["name"]: ListedFile(**entry) for entry in json.loads(read_text(path))}


def obtain(path, manifest=MANIFEST, timeout=TIMEOUT):
    """`path`; if nothing is there and the manifest lists a file of this name, after downloading it to `path`.

    A path that is neither there nor listed is returned as it is: who opens it says that it is missing.

    Args:
        manifest: JSON list of files with name, about, url, size and sha256.
        timeout: seconds to wait for the server's answer, and for each next part.
    Returns:
        Path
    Raises:
        RunError: no network, a broken download, or one that is not the listed file; nothing is left at `path`.
        InputError: the folder cannot be written to.
    """
    path = Path(path)
    if path.exists():
        return path
    listed = read_manifest(manifest).get(path.name)
    if listed is not None:
        _download(listed, path, timeout)
    return path


def _download(listed, path, timeout):
    _tell(f"{path} is not there; downloading {listed.about}\n  from {listed.url}")
    with atomic_path(path) as temporary:
        try:
            with _socket_timeout(timeout):
                torch.hub.download_url_to_file(listed.url, str(temporary.absolute()), progress=True)
        except (OSError, http.client.HTTPException) as error:
            raise _failure(listed, path, getattr(error, "reason", None) or error) from error
        content = temporary.read_bytes()
        if len(content) != listed.size:
            raise _failure(listed, path, f"got {len(content)} bytes of {listed.size}")
        if hashlib.sha256(content).hexdigest() != listed.sha256:
            raise _failure(listed, path, "what came is not the listed file, its SHA-256 differs")
    _tell(f"wrote {path} ({listed.size} bytes, SHA-256 verified)")


def _tell(message):
    print(message, file=sys.stderr)  # where the progress bar is; standard output stays for results


def _failure(listed, path, reason):
    reason = " ".join(str(reason).split()) or type(reason).__name__
    return RunError(
        f"{path}: not there, and the download failed ({reason}); download {listed.url} by hand and save it as {path}"
    )


@contextlib.contextmanager
def _socket_timeout(seconds):
    """torch.hub has no timeout of its own, and a network that swallows packets would hang it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
