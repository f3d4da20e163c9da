"""What the tests share: where things are, and scripts run as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SHARED = REPO.parent / "shared"


@pytest.fixture(scope="session")
def repo():
    """The project's folder."""
    return REPO


@pytest.fixture(scope="session")
def shared():
    """Images, released weights and golden figures that lie beside the project where it is developed."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("the development data is not there (../shared beside the project)")
    return SHARED


@pytest.fixture(scope="session")
def run_script():
    """Run a script with this Python, as a user would from the project's folder.

    `run_script("test.py", "--conf", 0.5, cwd=folder)` gives the CompletedProcess with stdout and stderr as text.
    The script's name is relative to the project, also when another working directory is given.
    """

    def run(script, *arguments, cwd=REPO, timeout=600, **options):
        command = [sys.executable, str(REPO / script), *map(str, arguments)]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False, **options
        )

    return run
