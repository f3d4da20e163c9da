"""Download released weights that are listed in modelzoo/manifest.json and missing on disk."""

import http.client
import json
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from utils.errors import RunError
from utils.files import check_writable, read_text

# JSON list of files with the entries of ListedFile.
MANIFEST = Path(__file__).resolve().parents[2] / "modelzoo" / "manifest.json"
TIMEOUT = 30  # seconds to wait for the server's answer, and then for each block of data


class ListedFile(NamedTuple):
    name: str  # file name; the file may be in any folder
    about: str  # one line for the message before the download
    url: str
    size: int  # bytes
    sha256: str  # 64 hexadecimal digits


def read_manifest() -> dict[str, ListedFile]:
    """Return the weights that can be downloaded, by file name."""
    return {entry["name"]: ListedFile(**entry) for entry in json.loads(read_text(MANIFEST))}


def obtain(path: str | Path) -> Path:
    """Return `path`; if it does not exist and the manifest lists a file of this name, download it to `path` first.

    A missing path that is not listed is returned unchanged.

    Raises:
        RunError: the download failed, or it is not the listed file; no file is left at `path`.
        InputError: the folder cannot be written to.
    """
    import torch.hub  # takes seconds; `read_manifest` is also used before PyTorch is needed

    path = Path(path)
    listed = None if path.exists() else read_manifest().get(path.name)
    if listed is None:
        return path
    check_writable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Messages go to standard error, like the progress bar; standard output stays for results.
    print(f"{path} is missing; downloading {listed.about}\n  from {listed.url}", file=sys.stderr)
    default_timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torch.hub has no timeout option and would wait forever
    try:
        torch.hub.download_url_to_file(listed.url, str(path.absolute()), hash_prefix=listed.sha256)
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: wrong SHA-256
        reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        raise RunError(
            f"{path}: is missing, and the download failed ({reason}); "
            f"download {listed.url} with a browser and save it as {path}"
        ) from error
    finally:
        socket.setdefaulttimeout(default_timeout)
    print(f"wrote {path} ({listed.size} bytes, SHA-256 verified)", file=sys.stderr)
    return path
