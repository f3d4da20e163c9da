"""Training steps on a GPU as one CUDA graph.

A step consists of about 1,400 kernels, which a GPU computes faster than Python can start them one by one. A CUDA graph
starts all of them at once (https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). It repeats recorded kernels
on the recorded memory, so everything that changes from step to step is copied into tensors that stay in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

from utils.errors import warn
from utils.losses import pad_targets
from utils.training import distributed
from utils.training.engine import Part, Step, train_step
from utils.training.settings import Settings
from utils.training.state import TrainingState

WARM_UP_STEPS = 3  # before the recording: PyTorch chooses algorithms, and creates the optimizer's state
MIN_TARGETS = 64  # a recording has room for at least this many
SPARE_TARGETS = 1.5  # room for targets in a recording, relative to the batch it is made with
# A GPU does not add in a fixed order, so a recorded step differs a little from the same step without a graph.
LOSS_TOLERANCE = 1e-2  # of the losses, relative
CHANGE_TOLERANCE = 0.05  # of the weights, relative to their change in the step


class CudaRecorder:
    """Records CUDA graphs on one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def warm_up(self, function: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Call a function on a side stream, as PyTorch asks for functions that will be recorded."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """Record a function as a CUDA graph.

        Returns:
            A function that repeats it, and the tensor that each repetition writes the result to.
        """
        graph = torch.cuda.CUDAGraph()
        # Other threads, which pin memory for the next batches, may call CUDA in the meantime.
        with torch.cuda.device(self.device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function()
        return graph.replay, result


class GraphStep:
    """Makes training steps by repeating a recorded one.

    The first steps run without a graph. A batch with more targets than the recording has room for is recorded again.
    The first repetition is compared with the same step without a graph; if they differ, or a step cannot be recorded,
    all steps run without a graph.

    Args:
        step: makes a step without a graph. The images of all batches have the same shapes.
    """

    def __init__(self, state: TrainingState, step: Step, recorder: CudaRecorder) -> None:
        self.state, self.step, self.recorder = state, step, recorder
        self.warm_up_steps = WARM_UP_STEPS
        self.usable = True
        self.checked = False
        self.parts: list[Part] = []  # the tensors that the recording reads
        self.replay: Callable[[], None] | None = None
        self.losses: torch.Tensor | None = None  # the tensor that the recording writes

    def __call__(self, parts: list[Part]) -> torch.Tensor:
        """Make one optimizer step, see `train_step`."""
        if self.warm_up_steps:
            self.warm_up_steps -= 1
            return self.recorder.warm_up(partial(self.step, parts))
        if not self.usable:
            return self.step(parts)
        if self.replay is None or self._needs_room(parts):
            return self._record(parts)
        self._fill(parts)
        if not self.checked:
            return self._check()
        self.replay()
        return self.losses.clone()

    def _needs_room(self, parts: list[Part]) -> bool:
        return any(len(targets) > len(own) for (_, targets), (_, own) in zip(parts, self.parts, strict=True))

    def _record(self, parts: list[Part]) -> torch.Tensor:
        """Record a step on new tensors with room for the targets of this batch, and make it without a graph."""
        device = self.state.device
        self.replay = self.losses = None  # free the memory of the previous recording
        rows = max(len(targets) for _, targets in parts) * SPARE_TARGETS
        rows = 2 ** math.ceil(math.log2(max(rows, MIN_TARGETS)))
        self.parts = [
            (torch.empty_like(images, device=device), torch.empty(rows, 6, device=device)) for images, _ in parts
        ]
        self._fill(parts)
        try:
            self.replay, self.losses = self.recorder.record(partial(self.step, self.parts))
        except RuntimeError as error:
            # If a step fails while it is recorded, ending the recording fails too. The first error names the cause.
            cause = error.__context__ or error
            self._give_up(f"{type(cause).__name__}: {cause}".splitlines()[0])
        return self._make_unrecorded()

    def _make_unrecorded(self) -> torch.Tensor:
        """Make a step without a graph, on the tensors of the recording; if memory is too small for both, give up."""
        try:
            return self.step(self.parts)
        except torch.cuda.OutOfMemoryError:
            if self.replay is None:
                raise
            self._give_up("the GPU has too little memory for the recorded step and the same step without a graph")
            torch.cuda.empty_cache()
            return self.step(self.parts)

    def _fill(self, parts: list[Part]) -> None:
        """Copy a batch into the tensors of the recording."""
        for (images, targets), (own_images, own_targets) in zip(parts, self.parts, strict=True):
            own_images.copy_(images, non_blocking=True)
            own_targets.copy_(pad_targets(targets, len(own_targets)), non_blocking=True)

    def _check(self) -> torch.Tensor:
        """Make a step twice from the same state, with and without the recording, and compare."""
        before = self._copy_state()
        self.replay()
        losses, after = self.losses.clone(), self._copy_state()
        self._restore(before)
        expected = self._make_unrecorded()
        expected_after = self._copy_state()
        weights = len(list(self.state.model.parameters()))
        change = _distance(before[:weights], expected_after[:weights])
        difference = _distance(after[:weights], expected_after[:weights])
        self.checked = True
        torch.cuda.empty_cache()  # of the step without the recording
        if not torch.allclose(losses, expected, rtol=LOSS_TOLERANCE) or difference > CHANGE_TOLERANCE * change:
            self._give_up(f"a recorded step is wrong by {difference:.3g}; the weights change by {change:.3g}")
        return expected

    def _state_tensors(self) -> list[torch.Tensor]:
        """All tensors that a step changes; first those of the weights."""
        state = self.state
        modules = [module for module in (state.model, state.ema) if module is not None]
        optimizer = [value for values in state.optimizer.state.values() for value in values.values()]
        return [
            *(weight.detach() for weight in state.model.parameters()),
            *(tensor for module in modules for tensor in module.buffers()),
            *(weight for module in modules[1:] for weight in module.parameters()),
            *(value for value in optimizer if isinstance(value, torch.Tensor)),
        ]

    def _copy_state(self) -> list[torch.Tensor]:
        return [tensor.clone() for tensor in self._state_tensors()]

    def _restore(self, saved: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for tensor, value in zip(self._state_tensors(), saved, strict=True):
                tensor.copy_(value)

    def _give_up(self, reason: str) -> None:
        self.usable, self.replay, self.losses = False, None, None
        self.state.optimizer.zero_grad(set_to_none=True)  # an interrupted recording may have left gradients
        warn(f"no CUDA graph, training will be slower: {reason}")


def _distance(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """Return the Euclidean distance between two copies of a state."""
    squares = [(tensor - other).double().square().sum() for tensor, other in zip(tensors, others, strict=True)]
    return float(torch.stack(squares).sum().sqrt())


def build_step(state: TrainingState, settings: Settings, batch_images: int) -> Step:
    """Return the function that makes the steps of a run: a CUDA graph, if the run is on CUDA and does not forbid it.

    Args:
        batch_images: images per step, over all processes.
    """
    eager = partial(train_step, state, batch_images=batch_images)
    if state.device.type != "cuda" or not settings.options.graph:
        return eager
    obstacle = "several processes exchange gradients" if distributed.world_size() > 1 else ""
    if state.scaler.is_enabled():
        obstacle = "float16 needs a check of each step; this GPU does not compute in bfloat16"
    if obstacle:
        warn(f"no CUDA graph, training will be slower: {obstacle}")
        return eager
    return GraphStep(state, eager, CudaRecorder(state.device))
