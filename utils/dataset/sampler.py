"""Which images are in which batch: a function of seed, epoch and step alone.

So a resumed run sees what an uninterrupted one sees, and N processes together see what one does.
"""

import numpy as np
import torch
from torch.utils.data import Sampler

from utils.errors import InputError


class TrainBatches(Sampler):
    """Lists of image numbers, the parts of each optimiser step's batch that this process computes.

    An epoch visits every image once, in an order of its own. A step's batch is cut into subdivisions × processes
    parts; this process gets one part a subdivision.

    Args:
        count: images in the data set.
        batch_size: images a step.
        subdivisions: parts that one process computes one after the other.
        seed: of the order.
        drop_last: leave out the images that do not fill a last batch (unless there are no others).
        rank, processes: which of how many processes this is.
    Raises:
        InputError: there are fewer images than parts.
    """

    def __init__(self, count, batch_size, subdivisions=1, seed=0, drop_last=False, rank=0, processes=1):
        self.count = count
        self.batch_size = min(batch_size, count)
        self.subdivisions, self.seed = subdivisions, seed
        self.rank, self.processes = rank, processes
        self.parts = subdivisions * processes
        self.epoch, self.first_step = 0, 0
        self._ordered_epoch, self._numbers = None, None  # the last epoch's order: every step asks for it
        if self.batch_size < self.parts:
            raise InputError(
                f"expected at least {self.parts} images a batch (subdivisions {subdivisions} x {processes} processes), "
                f"got {self.batch_size}"
            )
        whole, rest = divmod(count, self.batch_size)
        # A rest that leaves a part empty is never used.
        self.steps = whole + (rest >= self.parts and not drop_last)

    def start(self, epoch, first_step=0):
        """Choose the epoch, and its first step, of the next pass."""
        self.epoch, self.first_step = epoch, first_step

    def numbers(self, epoch, step):
        """Numbers of the images in the whole batch of one step, a numpy array."""
        return self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]

    def __len__(self):
        return (self.steps - self.first_step) * self.subdivisions

    def __iter__(self):
        order = self._order(self.epoch)
        for step in range(self.first_step, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            parts = np.array_split(batch, self.parts)
            for subdivision in range(self.subdivisions):
                yield parts[subdivision * self.processes + self.rank].tolist()

    def _order(self, epoch):
        if epoch != self._ordered_epoch:
            self._ordered_epoch, self._numbers = epoch, self._shuffle(epoch)
        return self._numbers

    def _shuffle(self, epoch):
        # PyTorch takes 64 bits, which a time in nanoseconds as seed would leave.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**64)
        return torch.randperm(self.count, generator=generator).numpy()


class EvaluationBatches(Sampler):
    """Image numbers in order, in batches; a process gets a contiguous share of the batches.

    The batches are the same however many processes there are, and so are the figures.
    """

    def __init__(self, count, batch_size, rank=0, processes=1):
        numbers = list(range(count))
        batches = [numbers[first : first + batch_size] for first in range(0, count, batch_size)]
        self.batches = batches[len(batches) * rank // processes : len(batches) * (rank + 1) // processes]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)
