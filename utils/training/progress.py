"""The progress of a training run."""

from dataclasses import dataclass, field

from utils.errors import warn
from utils.losses import Losses


@dataclass
class Progress:
    """The progress of a run in plain values, which are saved in the checkpoint."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the current epoch
    steps: int = 0  # steps per epoch
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Losses._fields))  # of the losses in this epoch
    seconds: float = 0.0  # training time in this epoch
    best_ap50: float = -1.0
    best_epoch: int = 0  # 0 if no epoch was evaluated
    history: list[dict] = field(default_factory=list)  # rows of results.csv, one per epoch

    @property
    def total_steps(self) -> int:
        """Finished steps of the whole run."""
        return self.epoch * self.steps + self.step

    def add(self, losses: list[float]) -> None:
        """Add one finished step and its losses."""
        self.step += 1
        self.sums = [total + value for total, value in zip(self.sums, losses, strict=True)]

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses of the steps of this epoch so far, by name."""
        steps = max(self.step, 1)
        return dict(zip(Losses._fields, (total / steps for total in self.sums), strict=True))

    def next_epoch(self) -> None:
        """Finish this epoch and begin the next one."""
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.sums = [0.0] * len(Losses._fields)

    def set_steps_per_epoch(self, steps: int) -> None:
        """Set the steps per epoch. If the count changes on --resume, the run keeps the fraction of the epoch."""
        if self.steps not in (0, steps):
            share = self.step / self.steps
            warn(f"an epoch has {steps} steps instead of {self.steps}; the run continues after {share:.0%} of it")
            before, self.step = self.step, int(share * steps)
            self.sums = [total * self.step / max(before, 1) for total in self.sums]
        self.steps = steps
