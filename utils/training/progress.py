"""How far a training run is: with the weights and the optimiser's state, all that going on needs."""

from dataclasses import dataclass, field

from utils.errors import warn
from utils.losses.original import Losses


@dataclass
class Progress:
    """Plain values, so that it can be kept in a checkpoint."""

    epoch: int = 0  # epochs that are done
    step: int = 0  # steps of the next one that are done
    steps: int = 0  # an epoch has
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Losses._fields))  # of this epoch's losses
    seconds: float = 0.0  # that this epoch's training took
    best_ap50: float = -1.0
    best_epoch: int = 0  # 0: none was evaluated
    history: list[dict] = field(default_factory=list)  # a row of results.csv an epoch

    @property
    def fresh(self):
        """Whether nothing is done yet."""
        return self.epoch == self.step == 0

    @property
    def done_steps(self):
        return self.epoch * self.steps + self.step

    def add(self, losses):
        """Count a step with its losses, a float each."""
        self.step += 1
        self.sums = [total + value for total, value in zip(self.sums, losses, strict=True)]

    def mean_losses(self):
        """{name: mean over this epoch's steps so far}"""
        steps = max(self.step, 1)
        return dict(zip(Losses._fields, (total / steps for total in self.sums), strict=True))

    def next_epoch(self):
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums = [0.0] * len(Losses._fields)

    def fit(self, steps):
        """Fit the place in the epoch to how many steps it has now: a run may go on with another batch size or list."""
        if self.steps not in (0, steps):
            share = self.step / self.steps
            warn(f"an epoch has {steps} steps, it had {self.steps}; the run goes on after {share:.0%} of its epoch")
            before, self.step = self.step, int(share * steps)
            self.sums = [total * self.step / max(before, 1) for total in self.sums]
        self.steps = steps
