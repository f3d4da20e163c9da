"""Training on several processes with torch.distributed, and the same calls on one, where they do nothing.

`torchrun --nproc_per_node=N train.py …` starts the processes and tells each its rank in the environment. Rank 0 is the
main process, the only one that prints and writes.
"""

import contextlib
import datetime
import io
import os
import re

import torch
import torch.distributed as dist

from utils.errors import RunError

# The others wait for what the main process does alone, such as reading a large data set for the first time.
TIMEOUT = datetime.timedelta(hours=2)
_LOST = re.compile(r"gloo|nccl|peer|connection", re.IGNORECASE)


@contextlib.contextmanager
def process_group():
    """Join the group that torchrun started, for the length of the block; without torchrun there is none."""
    if "RANK" not in os.environ:
        yield
        return
    # Without a name of its own PyTorch takes nccl for tensors on CUDA and gloo for those on the CPU.
    dist.init_process_group(timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_lost_process(error):
    """Whether a RuntimeError was raised because another process of the group has gone."""
    return dist.is_initialized() and not isinstance(error, RunError) and bool(_LOST.search(str(error)))


@contextlib.contextmanager
def main_first():
    """The main process runs the block; then the others do, silently. They exit where it failed.

    So what the block says is said once, and what it writes (a data set's cache, a downloaded file) is there for the
    others. The block must not call the other functions of this file that wait.
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
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def rank():
    return dist.get_rank() if dist.is_initialized() else 0


def world_size():
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main():
    """Whether this process is the one that prints and writes."""
    return rank() == 0


def local_rank():
    """This process's number on its machine, which is also the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def sum_over_processes(tensor):
    """The sum of every process's tensor; one process gets its own back."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather_lists(items):
    """Every process's list, one after the other in the order of ranks, on the main process; None on the others."""
    if not dist.is_initialized():
        return items
    parts = [None] * world_size() if is_main() else None
    dist.gather_object(items, parts)
    return [item for part in parts for item in part] if is_main() else None


def from_main(value):
    """The main process's value, on every process."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, 0)
    return values[0]


def any_process(flag, device="cpu"):
    """Whether the flag is set in any process; all of them must ask."""
    if not dist.is_initialized():
        return flag
    return bool(sum_over_processes(torch.tensor(int(flag), device=device)))


def same_everywhere(module):
    """Give every process the main one's weights and statistics: those of BatchNorm differ after a step."""
    if dist.is_initialized():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)
