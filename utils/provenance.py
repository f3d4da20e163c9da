"""How a result was made: package versions and the commit of this code."""

import platform
import subprocess
from pathlib import Path


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    import cv2
    import numpy
    import torch
    import torchvision

    packages = {module.__name__: module.__version__ for module in (torch, torchvision, numpy, cv2)}
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}


def git_state() -> str | None:
    """Return the commit of this code, with `-dirty` if files were changed; None without git or a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
