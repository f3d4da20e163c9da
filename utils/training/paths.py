"""The files of a training run, and the command that resumes it."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from utils.errors import InputError, RunError
from utils.files import unfinished_files
from utils.training import distributed
from utils.weights.checkpoint import read_training

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
    """Claim a name that no earlier run has (NAME, NAME-2, NAME-3, …): create its checkpoint, empty, and its folder.

    Both are created only if they do not exist, so two runs that start at the same time get different names.

    Raises:
        InputError: the files cannot be created.
    """
    names = itertools.chain([model_name], (f"{model_name}-{count}" for count in itertools.count(2)))
    try:
        for parent in (WEIGHTS, Path(output)):
            parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            paths = RunPaths(name, Path(output, name))
            if _claim(paths):
                return paths
    except OSError as error:
        raise InputError(f"{error.filename}: cannot create: {error.strerror}") from error


def _claim(paths: RunPaths) -> bool:
    """Create the checkpoint and the folder of a run; return False, and create none, if one of them exists."""
    try:
        paths.last.touch(exist_ok=False)
    except FileExistsError:
        return False
    try:
        paths.folder.mkdir()
    except OSError as error:
        paths.last.unlink()
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def find_checkpoint(model_name: str | None) -> Path:
    """Find the newest `-last.pth` in weights/ of a model name, or of all; a run's file may be NAME-2-last.pth.

    Raises:
        InputError: there is none, or a file that may be one cannot be read.
    """
    wanted = re.compile(rf"{re.escape(model_name)}(-\d+)?-last\.pth" if model_name else r".+-last\.pth")
    found = [path for path in WEIGHTS.glob("*-last.pth") if wanted.fullmatch(path.name) and path.stat().st_size]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        # The run mask-160 may be the 160th of the model mask, or the first of the model mask-160.
        if model_name is None or _model_name(path) in (model_name, None):
            return path
    raise InputError(
        f"--resume: expected {model_name or 'NAME'}-last.pth, the checkpoint of a run, in {WEIGHTS}/, found none"
    )


def _model_name(checkpoint: Path) -> str | None:
    """Return the model name in the description of a checkpoint; None if it has no description."""
    description = getattr(read_training(checkpoint)["model"], "description", None)
    return description and description["model_name"]


def remove_unfinished(paths: RunPaths) -> None:
    """Remove temporary files that a killed process of this run has left."""
    for left, _ in unfinished_files(paths.folder):
        left.unlink(missing_ok=True)
    own = re.compile(rf"{re.escape(paths.name)}-(last|best|\d+-epoch-[\d.]+ap-model)\.pth")
    for left, name in unfinished_files(WEIGHTS):
        if own.fullmatch(name):  # those of other runs may be in use
            left.unlink(missing_ok=True)


@contextlib.contextmanager
def resumable(paths: RunPaths) -> Iterator[None]:
    """Add the command that resumes the run to errors after which it can be resumed.

    Raises:
        RunError: out of memory, or another process of the run has ended.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
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
