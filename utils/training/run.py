"""A training run: setup, epochs, evaluation, checkpoints. A stopped run can be resumed with the same result."""

import dataclasses
import itertools
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model.detector import Detector
from utils.errors import InputError, RunError
from utils.evaluation.detect import EVAL_THRESHOLDS, collect_detections
from utils.evaluation.evaluate import Evaluation, compute_metrics
from utils.evaluation.write_plots import write_plots
from utils.losses import Losses
from utils.machine import use_threads
from utils.plots.fonts import class_labels
from utils.plots.predictions import save_predictions
from utils.plots.training import draw_results, save_first_batches
from utils.runtimes.device import select_device
from utils.runtimes.torch_runtime import TorchRuntime
from utils.text import counted, list_names
from utils.training import distributed
from utils.training.console import Console, describe_run, suggest_epochs
from utils.training.data import load_data
from utils.training.graph import GraphStep, build_step
from utils.training.log import open_events, write_arguments, write_events, write_results
from utils.training.optimizer import learning_rate_at
from utils.training.paths import RunPaths, new_paths, remove_unfinished, resumable
from utils.training.progress import Progress
from utils.training.run_description import check_unchanged, describe_model, describe_thresholds, keep_entries
from utils.training.settings import Settings
from utils.training.signals import StopRequest
from utils.training.state import TrainingState, build_state, join_processes
from utils.weights.checkpoint import load_weights, restore_training, save_training, save_weights
from utils.weights.start_weights import set_objectness_prior, start_weights

ABSURD_LOSS = 1e4  # a larger loss means that the training diverges; the first steps of both recipes are below 200
SAVE_PAUSE = 5  # seconds since the last checkpoint after which an epoch without evaluation is saved
CHECK_STEPS = 20  # on a GPU, steps between two checks of the losses; each check waits for the device
SHOWN_IMAGES = 8  # file names in an error about a batch


class Run:
    """A training run.

    Args:
        saved: content of the `-last.pth` to resume from (`utils.weights.checkpoint.read_training`).

    Raises:
        InputError: the data, the checkpoint or the device cannot be used.
        RunError: listed weights cannot be downloaded.
    """

    def __init__(self, settings: Settings, saved: dict | None = None) -> None:
        self.settings = settings
        use_threads(settings.options.threads)
        self.device = select_device(distributed.process_device(settings.options.device))
        with distributed.main_first():
            self.data = load_data(settings, self.device)
            self.description = describe_model(settings, self.data.train.index)
            if saved:
                check_unchanged(saved, self.description)
            self.state, self.progress, self.start = _build(settings, saved, self.device)
        if saved:
            self.description = keep_entries(self.description, saved)
        else:
            self.description["training"]["start"] = self.start
        self.progress.set_steps_per_epoch(self.data.batches.steps)
        join_processes(self.state, settings)
        self.make_step = build_step(self.state, settings, self.data.batches.batch_size)
        with distributed.main_first():
            paths = _claim_paths(settings, saved)
        self.paths: RunPaths = distributed.from_main(paths)
        self.class_labels = class_labels(settings.config.class_names) if distributed.is_main() else None
        self.stop = StopRequest()
        self.console = Console(self.progress, settings.epochs, self.data.batches.batch_size, distributed.is_main())
        self.events = None  # TensorBoard writer
        self.best_evaluation: Evaluation | None = None  # None if the best epoch was before --resume
        self.warned_of_loss = False
        self.last_check = self.last_save = time.monotonic()

    def train(self) -> int:
        """Train to the end, or until the user stops the run.

        Returns:
            Exit status: 0, or 128 + the number of the signal that stopped the run.

        Raises:
            RunError: the loss is not finite, a file cannot be written, another process has ended.
        """
        self._begin()
        self.console.start()
        with self.stop, resumable(self.paths):
            try:
                finished = self._run_epochs() and self._plot_best()
            finally:
                self.console.close()
        self._end(finished)
        return 0 if finished else 128 + (self.stop.signal_number or signal.SIGINT)

    def _run_epochs(self) -> bool:
        """Train and evaluate the remaining epochs; return False if the user stops the run."""
        while self.progress.epoch < self.settings.epochs and not self._out_of_patience():
            self._train_epoch()
            epoch = self.progress.epoch + 1
            evaluate = epoch % self.settings.eval_interval == 0 or epoch == self.settings.epochs
            stopped = self._is_stopped()
            if stopped or evaluate:
                self.save()
            evaluation = None
            if evaluate and not stopped:
                evaluation, stopped = self.evaluate(self.state.evaluated_model)
            if stopped:
                return False
            self._finish_epoch(evaluation)
        return True

    def _begin(self) -> None:
        """Print the description of the run, and write its first files."""
        if not distributed.is_main():
            return
        settings, progress, paths = self.settings, self.progress, self.paths
        self.save()  # a run that is killed in its first step can be resumed too
        if progress.epoch >= settings.epochs:
            print(f"finished {counted(settings.epochs, 'epoch')} of this run; --epochs N with a larger N trains longer")
        graph = isinstance(self.make_step, GraphStep)
        print(*describe_run(settings, self.data, self.state, self.start, graph), sep="\n")
        if settings.options.epochs is None and (hint := suggest_epochs(settings, self.data)):
            print(hint)
        print(f"output   {paths.folder}, {paths.last.parent}/{paths.name}-*.pth", flush=True)
        write_arguments(paths.folder, settings, progress)
        self.events = open_events(paths.folder, progress.history)
        remove_unfinished(paths)
        if not progress.total_steps:
            save_first_batches(paths.folder, self.data.train, self.data.batches, self.class_labels)
        if progress.history:
            write_results(paths.folder, progress.history)

    def _train_epoch(self) -> None:
        """Train for one epoch, or for the rest of an epoch, or until the user stops the run."""
        progress, data, state = self.progress, self.data, self.state
        data.batches.start(progress.epoch, progress.step)
        data.train.set_epoch(progress.epoch)
        state.network.train()
        for module in state.frozen:
            module.eval()
        parts = iter(data.train_loader)
        pending = []  # losses of the steps since the last check
        self.last_check = time.monotonic()
        for step in range(progress.step, progress.steps):
            rate = self._learning_rate(step)
            state.set_step(rate, progress.epoch * progress.steps + step + 1)
            own_parts = list(itertools.islice(parts, data.batches.subdivisions))
            pending.append(distributed.sum_over_processes(self.make_step(own_parts)))
            last = step + 1 == progress.steps
            if self.device.type != "cpu" and len(pending) < CHECK_STEPS and not last:
                continue
            self._check_losses(pending)
            pending.clear()
            self.console.after_step(rate)
            if self._is_stopped():
                return
            if not last and time.monotonic() - self.last_save > self.settings.options.save_interval:
                self.save()

    def _learning_rate(self, step: int) -> float:
        """Return the learning rate of a step of this epoch."""
        settings, progress = self.settings, self.progress
        total_steps = progress.epoch * progress.steps + step
        milestones = settings.config.steps
        return learning_rate_at(
            total_steps, settings.recipe, settings.learning_rate, milestones, progress.steps, settings.epochs
        )

    def _check_losses(self, losses: list[torch.Tensor]) -> None:
        """Wait for the device, and add the losses of steps to the progress; fail if one is not finite."""
        for row in torch.stack(losses).double().cpu().tolist():
            if not all(map(math.isfinite, row)):
                values = ", ".join(f"{name} {value:g}" for name, value in zip(Losses._fields, row, strict=True))
                self._fail(self.progress.step, f"the loss is not finite ({values})")
            if row[0] > ABSURD_LOSS:
                self._warn_of_loss(row[0])
            self.progress.add(row)
        now = time.monotonic()
        self.progress.seconds += now - self.last_check
        self.last_check = now

    def _warn_of_loss(self, loss: float) -> None:
        """Warn once that the training diverges, although its numbers are finite."""
        if distributed.is_main() and not self.warned_of_loss:
            self.warned_of_loss = True
            rate = self.settings.learning_rate
            self.console.print(
                f"warning: the loss is {loss:.3g} in epoch {self.progress.epoch + 1}, batch {self.progress.step + 1}; "
                f"the learning rate {rate:g} is probably too high: start again with, for example, --lr {rate / 10:g}"
            )

    def _check_weights(self) -> None:
        """Fail if a weight is not finite. The loss would show this only in the next step."""
        for name, tensor in self.state.model.state_dict().items():
            if not torch.isfinite(tensor).all():
                self._fail(max(self.progress.step - 1, 0), f"{name} is no longer finite")

    def _fail(self, step: int, problem: str) -> None:
        """End the run with an error that names the images of a step of this epoch."""
        if not distributed.is_main():
            raise SystemExit(1)  # the main process prints the error
        epoch, index = self.progress.epoch, self.data.train.index
        batch = self.data.batches.batch_indices(epoch, step).tolist()
        names = list_names([os.path.basename(index.images[image]) for image in batch], SHOWN_IMAGES)
        without_amp = ", or continue with --no-amp" if self.state.amp else ""
        raise RunError(
            f"{problem} in epoch {epoch + 1}, batch {step + 1}; images: {names}. Check the data with "
            f"tools/check_dataset.py, or continue with a lower learning rate{without_amp}: {self.paths.resume_command} "
            f"--lr {self.settings.learning_rate / 10:g} (the checkpoint was saved before this step and is intact)"
        )

    def _is_stopped(self) -> bool:
        return distributed.any_process(bool(self.stop), self.device)

    def _out_of_patience(self) -> bool:
        patience, progress = self.settings.options.patience, self.progress
        # Only an evaluated epoch can end the run.
        evaluated = bool(progress.history) and "AP50" in progress.history[-1] and progress.step == 0
        waited = progress.epoch - progress.best_epoch
        if not (patience and evaluated and waited >= patience):
            return False
        self.console.print(f"no better AP50 since epoch {progress.best_epoch}, {waited} epochs ago: the run ends")
        return True

    def evaluate(self, network: nn.Module) -> tuple[Evaluation | None, bool]:
        """Evaluate a network on the val list, on all processes.

        Returns:
            The evaluation, or None except in the main process; and whether the user has stopped the run.
        """
        config = self.settings.config
        distributed.broadcast_state(network)
        # A plain copy: the runtime uses a memory format in which results do not depend on the number of threads.
        detector = Detector(network.classes, network.anchor_num)
        detector.load_state_dict(network.state_dict())
        runtime = TorchRuntime(detector, config, self.device)

        def predict(batch: tuple[torch.Tensor, torch.Tensor]) -> list[np.ndarray]:
            return runtime.predict(batch[0].permute(0, 2, 3, 1), EVAL_THRESHOLDS)

        batches = itertools.takewhile(lambda _: not self.stop, self.data.val_loader)
        detections = collect_detections(predict, batches, self.data.val_images, show_progress=distributed.is_main())
        if self._is_stopped():
            return None, True
        detections = distributed.gather_lists(detections)
        if detections is None:
            return None, False
        return compute_metrics(detections, self.data.val.index, config, by_size=False), False

    def _finish_epoch(self, evaluation: Evaluation | None) -> None:
        """Record an epoch with its metrics, and save."""
        progress, paths = self.progress, self.paths
        metrics = distributed.from_main(_metrics(evaluation))
        better = metrics.get("AP50", -1) > progress.best_ap50
        if better:
            progress.best_ap50, progress.best_epoch = metrics["AP50"], progress.epoch + 1
            # The results in COCO's format are large, and the plots do not need them.
            self.best_evaluation = evaluation and dataclasses.replace(evaluation, results=[])
        row = {
            "epoch": progress.epoch + 1,
            "step": (progress.epoch + 1) * progress.steps,
            "learning_rate": self._learning_rate(progress.steps - 1),
            **progress.mean_losses(),
            "images_per_second": round(self.console.images_per_second(), 2),
            **metrics,
        }
        progress.history.append(row)
        if distributed.is_main():
            self._check_weights()
        progress.next_epoch()
        self.console.after_epoch(row, better)
        if not distributed.is_main():
            return
        if metrics:
            self.description = describe_thresholds(self.description, evaluation)
            self._save_weights(paths.evaluated(progress.epoch, row["original_AP"]))
            if better:
                self._save_weights(paths.best)
        write_results(paths.folder, progress.history)
        if metrics:  # drawing takes half a second, in which a GPU trains a small set for several epochs
            draw_results(paths.folder, progress.history)
        write_events(self.events, row)
        # The checkpoint is last: if the run is killed before this, the resumed run writes all of the above again.
        if metrics or time.monotonic() - self.last_save > SAVE_PAUSE:
            self.save()

    def save(self) -> None:
        """Write the checkpoint, on the main process."""
        self.last_save = time.monotonic()
        if not distributed.is_main():
            return
        self._check_weights()
        content = {
            "name": self.paths.name,
            "folder": str(self.paths.folder),
            "options": dataclasses.asdict(self.settings.options),
            "progress": dataclasses.asdict(self.progress),
        }
        save_training(self.paths.last, self.state, content, self.description)

    def _save_weights(self, path: Path) -> None:
        """Write the weights of this epoch, with a description that names it."""
        training = {**self.description["training"], "epoch": self.progress.epoch}
        save_weights(path, self.state.evaluated_model, {**self.description, "training": training})

    def _plot_best(self) -> bool:
        """Plot the evaluation of the best weights; return False if the user stops it."""
        config, index = self.settings.config, self.data.val.index
        if distributed.from_main(self.best_evaluation is None and not self.paths.best.exists()):
            return True  # no epoch was evaluated, or the run continues from a copy of its checkpoint
        if distributed.from_main(self.best_evaluation is None):
            network = Detector(config.classes, config.anchor_num).to(self.device)
            if distributed.is_main():
                load_weights(network, self.paths.best, asked_by=config.path)
            self.best_evaluation, stopped = self.evaluate(network)
            if stopped:
                return False
        if distributed.is_main():
            folder, size = self.paths.folder, config.size
            write_plots(folder, self.best_evaluation, config, index, self.class_labels)
            save_predictions(
                folder / "val_predictions.jpg", index, self.best_evaluation.detections, size, self.class_labels
            )
        return True

    def _end(self, finished: bool) -> None:
        """Print how the run ended and what it wrote."""
        if not distributed.is_main():
            return
        progress, paths = self.progress, self.paths
        if self.events is not None:
            self.events.close()
        if not finished:
            where = "after the last epoch"
            if progress.epoch < self.settings.epochs:
                where = f"in epoch {progress.epoch + 1}, after {progress.step} of its {progress.steps} steps"
            print(f"stopped {where}; continue with: {paths.resume_command}")
            return
        if progress.best_epoch:
            where = f": {paths.best}" if paths.best.exists() else " of the run that this one continues"
            print(f"best     AP50 {progress.best_ap50:.4f} after epoch {progress.best_epoch}{where}")
        print(f"wrote    {paths.folder}/: {', '.join(sorted(path.name for path in paths.folder.iterdir()))}")
        print(f"wrote    {paths.last.parent}/{paths.name}-*.pth")


def _build(settings: Settings, saved: dict | None, device: torch.device) -> tuple[TrainingState, Progress, str]:
    """Create or restore the training state and the progress; describe in one line where the weights come from."""
    config = settings.config
    torch.manual_seed(settings.options.seed)
    detector = Detector(config.classes, config.anchor_num)
    if settings.recipe.objectness_prior is not None:
        set_objectness_prior(detector, settings.recipe.objectness_prior)
    if saved:
        state = build_state(detector, settings, device)
        restore_training(state, saved, config.path)
        return state, Progress(**saved["progress"]), f"continued from {saved['path']}"
    start = ""
    if distributed.is_main():  # the other processes get its weights
        start = start_weights(detector, settings.weights, config.path.parent, settings.recipe.start)
    return build_state(detector, settings, device), Progress(), start


def _claim_paths(settings: Settings, saved: dict | None) -> RunPaths | None:
    """Return the files of the run, in the main process; None in the others.

    A resumed run gets new files if its checkpoint is not where the run wrote it: another run may have its name here.

    Raises:
        InputError: --output names another folder than that of the resumed run.
    """
    output = settings.options.output
    if not distributed.is_main():
        return None
    if saved:
        paths = RunPaths(saved["name"], Path(saved["folder"]))
        if os.path.realpath(saved["path"]) == os.path.realpath(paths.last):
            if paths.folder.parent != Path(output):
                raise InputError(f"--output {output}: expected no --output: the run continues in {paths.folder}")
            return paths
    return new_paths(output, settings.config.model_name)


def _metrics(evaluation: Evaluation | None) -> dict[str, float]:
    """Return the metrics for results.csv."""
    if evaluation is None:
        return {}
    original, metrics = evaluation.original, evaluation.coco.summary
    return {
        "AP50": metrics["AP50"],
        "AP": metrics["AP"],
        "precision": original.precision,
        "recall": original.recall,
        "original_AP": original.ap,
        "F1": original.f1,
        "conf": evaluation.coco.overall.threshold,
    }
