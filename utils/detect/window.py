"""Showing pictures in a window, where there is a display."""

import os
import subprocess
import sys
from pathlib import Path

import cv2

from utils.errors import warn
from utils.plots.fonts import default_font

_LARGEST = (1280, 720)  # width and height that fit most displays
_QUIT_KEYS = (ord("q"), 27)  # 27 is Esc
_NO_KEY = -1
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"


def open_window(title):
    """A Window, or None with a warning where windows cannot be opened."""
    # Some builds of OpenCV name a folder of fonts that is not there, and their window library complains at length.
    if not Path(os.environ.get("QT_QPA_FONTDIR", ".")).is_dir():
        os.environ["QT_QPA_FONTDIR"] = str(Path(default_font()).parent)
    # Without a display the window library ends the whole process, and OpenCV may be built without one:
    # a process of its own tells both.
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=30, check=False)
        possible = probe.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        possible = False
    if not possible:
        warn("--show: no window can be opened here (no display, or an OpenCV without windows); goes on without")
        return None
    return Window(title)


class Window:
    """A window that shows one picture after the other."""

    def __init__(self, title):
        self.title = title
        cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)

    def show(self, image, wait):
        """Show [H, W, 3] uint8 BGR, made smaller to fit a display.

        Args:
            wait: whether to wait for a key, as for a picture; a video goes on.
        Returns:
            False when the user has asked to stop, with Esc, q, or by closing the window.
        """
        height, width = image.shape[:2]
        scale = min(_LARGEST[0] / width, _LARGEST[1] / height, 1)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        cv2.imshow(self.title, cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image)
        while True:
            # Short waits, because a window that is closed ends no wait.
            key = cv2.waitKey(50 if wait else 1)
            if key & 0xFF in _QUIT_KEYS or cv2.getWindowProperty(self.title, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if not wait or key != _NO_KEY:
                return True
