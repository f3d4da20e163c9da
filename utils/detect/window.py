"""A window that shows images, if the machine has a display."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from utils.errors import warn
from utils.plots.fonts import default_font

_MAX_SIZE = (1280, 720)  # width and height in pixels; fits most displays
_QUIT_KEYS = (ord("q"), 27)  # 27 is Esc
_NO_KEY = -1
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"


def open_window(title: str) -> bool:
    """Open a window. Return False, with a warning, if this machine cannot open one."""
    # Some builds of OpenCV set this to a folder that does not exist, and Qt prints many warnings about it.
    if not Path(os.environ.get("QT_QPA_FONTDIR", ".")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(Path(default_font()).parent)
    # Tried in a subprocess, because Qt ends the process if there is no display. OpenCV may also have no support for
    # windows.
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=30, check=False)
        possible = probe.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        possible = False
    if not possible:
        warn("--show: cannot open a window (no display, or an OpenCV without windows); continuing without one")
        return False
    cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
    return True


def show_image(title: str, image: np.ndarray, wait: bool) -> bool:
    """Show an image in a window, reduced to _MAX_SIZE if it is larger.

    Args:
        title: title of an open window.
        image: [H, W, 3] uint8, BGR.
        wait: for a key before returning.

    Returns:
        False if the user has pressed Esc or q, or has closed the window.
    """
    height, width = image.shape[:2]
    scale = min(_MAX_SIZE[0] / width, _MAX_SIZE[1] / height, 1)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    cv2.imshow(title, cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image)
    while True:
        # Closing the window does not end waitKey, so wait in short intervals.
        key = cv2.waitKey(50 if wait else 1)
        if key & 0xFF in _QUIT_KEYS or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return False
        if not wait or key != _NO_KEY:
            return True
