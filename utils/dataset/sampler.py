"""Which images are in which batch: a pure function of seed, epoch and step.

Therefore a resumed run gets the same batches as an uninterrupted one, and N processes together the same as one.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from utils.errors import InputError


class TrainBatches(Sampler):
    """Lists of image indices: the parts of each step's batch that this process computes.

    An epoch uses no image twice, in a random order that depends on seed and epoch. An incomplete last batch is skipped;
    a data set smaller than a batch is one complete batch. The batch of a step is divided into subdivisions × processes
    parts; this process gets one part per subdivision.

    Args:
        count: images in the data set.
        batch_size: images per step.
        subdivisions: parts that one process computes one after the other.

    Raises:
        InputError: a batch has fewer images than parts.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        subdivisions: int = 1,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.count = count
        self.batch_size = min(batch_size, count)
        self.subdivisions, self.seed = subdivisions, seed
        self.rank, self.processes = rank, processes
        self.parts = subdivisions * processes
        self.epoch, self.first_step = 0, 0
        self._order_epoch, self._order = None, None  # kept, because each step of an epoch needs it
        if self.batch_size < self.parts:
            raise InputError(
                f"expected at least {self.parts} images per batch (subdivisions {subdivisions} x {processes} "
                f"processes), got {self.batch_size}"
            )
        self.steps = count // self.batch_size

    def start(self, epoch: int, first_step: int = 0) -> None:
        """Set the epoch of the next iteration, and the step at which it starts."""
        self.epoch, self.first_step = epoch, first_step

    def batch_indices(self, epoch: int, step: int) -> np.ndarray:
        """Indices of the images in the whole batch of one step."""
        if epoch != self._order_epoch:
            # PyTorch accepts 64 bits; a clock in nanoseconds as seed, times the factor, exceeds them.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**64)
            self._order = torch.randperm(self.count, generator=generator).numpy()
            self._order_epoch = epoch
        return self._order[step * self.batch_size : (step + 1) * self.batch_size]

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.subdivisions

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        for step in range(self.first_step, self.steps):
            parts = np.array_split(self.batch_indices(epoch, step), self.parts)
            for subdivision in range(self.subdivisions):
                yield parts[subdivision * self.processes + self.rank].tolist()


def evaluation_batches(count: int, batch_size: int, rank: int = 0, processes: int = 1) -> list[list[int]]:
    """Return image indices in order, in batches; each process gets a contiguous share of the batches.

    The batches, and therefore the metrics, do not depend on the number of processes.
    """
    indices = list(range(count))
    batches = [indices[first : first + batch_size] for first in range(0, count, batch_size)]
    return batches[len(batches) * rank // processes : len(batches) * (rank + 1) // processes]
