"""The files of a training run, and the command that resumes it."""

import contextlib
import glob
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.errors import InputError, RunError
from utils.files import new_folder
from utils.training import distributed

WEIGHTS = Path("weights")


@dataclass(frozen=True)
class RunPaths:
    """The files of a run."""

    name: str
    folder: Path  # for everything except the weights

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return WEIGHTS / f"{self.name}-last.pth"

    @property
    def best(self) -> Path:
        """The weights with the best AP50."""
        return WEIGHTS / f"{self.name}-best.pth"

    def evaluated(self, epoch: int, ap: float) -> Path:
        """The weights of one evaluation, named as the original names them."""
        return WEIGHTS / f"{self.name}-{epoch}-epoch-{ap:.6f}ap-model.pth"

    @property
    def resume_command(self) -> str:
        """The command line that continues the run."""
        processes = os.environ.get("LOCAL_WORLD_SIZE")
        program = f"torchrun --nproc_per_node={processes}" if processes else "python3"
        return f"{program} train.py --resume {self.last}"


def new_paths(output: str, model_name: str) -> RunPaths:
    """Choose a name that no earlier run has (NAME, NAME-2, NAME-3, …) and create its folder."""
    names = itertools.chain([model_name], (f"{model_name}-{count}" for count in itertools.count(2)))
    for name in names:
        folder = Path(output, name)
        if not folder.exists() and not RunPaths(name, folder).last.exists():
            return RunPaths(name, new_folder(output, name))


def newest_checkpoint() -> Path:
    """Find the `-last.pth` in weights/ that was written last.

    Raises:
        InputError: there is none.
    """
    found = sorted(WEIGHTS.glob("*-last.pth"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"--resume: expected a run's NAME-last.pth in {WEIGHTS}/, found none")
    return found[-1]


def remove_unfinished(path: Path) -> None:
    """Remove temporary files next to `path` that a killed process has left."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}-????????{path.suffix}"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def resumable(paths: RunPaths) -> Iterator[None]:
    """Add the command that resumes the run to errors after which it can be resumed.

    Raises:
        RunError: out of memory, or another process of the run has ended.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory: {str(error).splitlines()[0]} Use a smaller --batch-size, or more subdivisions in the "
            f".data file, and continue with: {paths.resume_command}"
        ) from error
    except RuntimeError as error:
        if not distributed.is_lost_process(error):
            raise
        # Each remaining process gets this error. Ranks 0 and 1 print it, because one of them may have ended.
        if distributed.rank() > 1:
            raise SystemExit(1) from error
        raise RunError(f"another process of this run has ended; continue with: {paths.resume_command}") from error
