"""How a result was made: package versions and the commit of this code."""

import hashlib
import platform
import subprocess
import sys
from pathlib import Path

from utils.files import read_bytes

_PACKAGES = ("torch", "torchvision", "numpy", "cv2", "onnxruntime", "ncnn")


def versions() -> dict[str, str]:
    """Return the versions of the packages in use that results depend on."""
    modules = {name: sys.modules.get(name) for name in _PACKAGES}
    loaded = {name: getattr(module, "__version__", "unknown") for name, module in modules.items() if module}
    return {"python": platform.python_version(), "platform": platform.platform(), **loaded}


def file_hash(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, to identify the weights or the data of a result.

    Raises:
        InputError: the file cannot be read.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


def git_state() -> str | None:
    """Return the commit of this code, with `-dirty` if files were changed; None without git or a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
