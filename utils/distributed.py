"""Training on several processes with torch.distributed, and the same calls on one, where they do nothing.

`torchrun --nproc_per_node=N train.py …` starts the processes and tells each its rank in the environment.
"""

import contextlib
import os

import torch
import torch.distributed as dist


@contextlib.contextmanager
def process_group(device):
    """Join the group that torchrun started (nccl on CUDA, gloo otherwise) for the length of the block."""
    if "RANK" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


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
    """Every process's list, one after the other in the order of ranks, on every process."""
    if not dist.is_initialized():
        return items
    parts = [None] * world_size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def any_process(flag):
    """Whether the flag is set in any process; all of them must ask."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(sum_over_processes(torch.tensor(int(flag), device=device)))


def wait():
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def same_everywhere(module):
    """Give every process the main one's weights and statistics: those of BatchNorm differ after a step."""
    if dist.is_initialized():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)
