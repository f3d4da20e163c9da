"""Training in several processes with torch.distributed. With one process the same calls do nothing.

`torchrun --nproc_per_node=N train.py …` starts the processes and sets their environment variables, such as RANK.
Rank 0 is the main process, the only one that prints and writes.
"""

import contextlib
import datetime
import io
import os
import re
from collections.abc import Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from utils.errors import InputError, RunError

# The other processes wait while the main process works alone, for example indexes a large data set.
TIMEOUT = datetime.timedelta(hours=2)
# In the messages of the errors that PyTorch raises when another process of the group has ended.
_LOST = re.compile(r"gloo|nccl|peer|connection", re.IGNORECASE)

T = TypeVar("T")


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join torchrun's process group for the duration of the block. Without torchrun there is no group."""
    if "RANK" not in os.environ:
        yield
        return
    # Without a backend argument PyTorch uses nccl for CUDA tensors and gloo for CPU tensors.
    dist.init_process_group(timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def check_gpus(device: str) -> None:
    """Check that each process of this machine has a GPU, if the run is on GPUs.

    Raises:
        InputError: there are more processes than GPUs.
    """
    gpus, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device in ("auto", "cuda") and 0 < gpus < processes:
        raise InputError(
            f"--nproc_per_node={processes}: expected at most one process per GPU, this machine has {gpus}; "
            "--device cpu trains on the CPU"
        )


def is_lost_process(error: RuntimeError) -> bool:
    """Return whether an error was raised because another process of the group has ended."""
    return dist.is_initialized() and not isinstance(error, RunError) and bool(_LOST.search(str(error)))


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process first, then silently in the others. If it fails, the others exit.

    So each message is printed once, and the other processes find the files that the block writes (caches, downloads).
    The block must not call the functions below that communicate.
    """
    if is_main():
        try:
            yield
        except BaseException:
            from_main(False)
            raise
        from_main(True)
        return
    if not from_main(None):
        raise SystemExit(1)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield


def rank() -> int:
    """Return the index of this process, 0 for the main process."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the count of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this is the process that prints and writes."""
    return rank() == 0


def process_device(name: str) -> str:
    """Return the device of this process for a value of --device: if the run is on GPUs, the one of its local rank."""
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    return gpu if name in ("auto", "cuda") and torch.cuda.is_available() else name


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather_lists(items: list[T]) -> list[T] | None:
    """Concatenate the lists of all processes, in the order of their ranks; None except on the main process."""
    if not dist.is_initialized():
        return items
    parts = [None] * world_size() if is_main() else None
    dist.gather_object(items, parts)
    return [item for part in parts for item in part] if is_main() else None


def from_main(value: T) -> T:
    """Return the main process's value in every process."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def any_process(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Return whether the flag is set in any process. All processes must call this."""
    if not dist.is_initialized():
        return flag
    return bool(sum_over_processes(torch.tensor(int(flag), device=device)))


def broadcast_state(module: nn.Module) -> None:
    """Copy weights and BatchNorm statistics, which differ between processes, from the main process to the others."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)
