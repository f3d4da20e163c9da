"""What a result was made with: versions of the packages and the state of this code."""

import platform
import subprocess
from pathlib import Path


def versions():
    """Versions of what a figure depends on, by name."""
    import cv2
    import numpy
    import torch
    import torchvision

    packages = {module.__name__: module.__version__ for module in (torch, torchvision, numpy, cv2)}
    return {"python": platform.python_version(), "platform": platform.platform(), **packages}


def git_state():
    """Commit of this code, with `-dirty` when files differ from it; None where there is no git or no repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
