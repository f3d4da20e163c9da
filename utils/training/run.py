"""A training run from settings to weights, which can be stopped at any moment and goes on exactly."""

import contextlib
import dataclasses
import functools
import glob
import itertools
import math
import os
import signal
import time
from pathlib import Path

import torch

from model.detector import Detector
from utils.errors import InputError, RunError
from utils.evaluation.detect import collect_detections, predict_batch
from utils.evaluation.files import write_plots
from utils.evaluation.metrics import measure
from utils.files import new_folder
from utils.losses.original import Losses
from utils.plots.fonts import class_labels
from utils.plots.training import save_first_batches, save_predictions
from utils.runtimes.loading import select_device
from utils.runtimes.torch_runtime import TorchRuntime
from utils.training import distributed
from utils.training.console import Screen, describe_run
from utils.training.data import load_data
from utils.training.engine import train_epoch
from utils.training.learner import build_learner, join_processes
from utils.training.log import draw_results, open_events, write_arguments, write_events, write_results
from utils.training.progress import Progress
from utils.training.recipe import learning_rate
from utils.training.signals import Interrupt
from utils.weights.checkpoint import load_weights, restore_training, save_training, save_weights
from utils.weights.pretrained import set_objectness_prior, start_weights

WEIGHTS = Path("weights")
CHECK_STEPS = 20  # on a GPU, steps between two looks at the losses: each look waits for the device
NAMED = 8  # images of a batch that failed


def newest_checkpoint():
    """The `-last.pth` in weights/ that was written last.

    Raises:
        InputError: there is none.
    """
    found = sorted(WEIGHTS.glob("*-last.pth"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(f"--resume: expected a run's NAME-last.pth in {WEIGHTS}/, found none")
    return found[-1]


class Run:
    """A training run: what learns, its data, and how far it is.

    Args:
        settings: Settings.
        options: dict of train.py's options, kept in the checkpoints so that --resume needs none.
        saved: content of a `-last.pth` to go on from (`utils.weights.checkpoint.read_training`).
    Raises:
        InputError, RunError: see the message.
    """

    def __init__(self, settings, options, saved=None):
        self.settings, self.options, self.saved = settings, options, saved
        self.device = select_device(_own_device(settings.device))
        config = settings.config
        self.data = load_data(settings, self.device)
        torch.manual_seed(settings.seed)
        detector = Detector(config.classes, config.anchor_num)
        if settings.recipe.objectness_prior is not None:
            set_objectness_prior(detector, settings.recipe.objectness_prior)
        if saved:
            self.start = f"continued from {saved['path']}"
        elif distributed.is_main():  # the other processes get its weights
            self.start = start_weights(detector, settings.weights, config.path.parent)
        self.learner = build_learner(detector, settings, self.device)
        self.progress = Progress()
        if saved:
            restore_training(self.learner, saved, config.path)
            self.progress = Progress(**saved["progress"])
        self.progress.fit(self.data.batches.steps)
        self.tags = class_labels(config.class_names) if distributed.is_main() else None
        self.stop = Interrupt()
        self.evaluation = None  # of the best weights, when this session has seen it

    def train(self):
        """Run to the end, or until the user stops it.

        Returns:
            int, an exit status: 0, or 128 + the number of the signal that stopped it.
        Raises:
            RunError: the loss is not finite, a file cannot be written, another process has gone.
        """
        settings, progress = self.settings, self.progress
        join_processes(self.learner, settings)
        self.name, self.folder = distributed.from_main(self._place() if distributed.is_main() else None)
        self.last_path, self.best_path = WEIGHTS / f"{self.name}-last.pth", WEIGHTS / f"{self.name}-best.pth"
        if distributed.is_main():
            self._begin()
        self.last_save = time.monotonic()
        self.screen = Screen(progress, settings.epochs, self.data.batches.batch_size, distributed.is_main())
        finished = False
        with self.stop, _resumable(self.last_path):
            try:
                while progress.epoch < settings.epochs and not self._out_of_patience():
                    if not self._epoch():
                        break
                else:
                    finished = self._picture_best()
            finally:
                self.screen.close()
        if distributed.is_main():
            self._end(finished)
        return 0 if finished else 128 + (self.stop.number or signal.SIGINT)

    def _place(self):
        """(name, folder) of the run; a new run gets a name that no earlier one has: NAME, NAME-2, NAME-3, …"""
        if self.saved:
            return self.saved["name"], Path(self.saved["folder"])
        output, given = Path(self.settings.output), self.settings.config.model_name
        names = itertools.chain([given], (f"{given}-{number}" for number in itertools.count(2)))
        name = next(
            name for name in names if not (output / name).exists() and not (WEIGHTS / f"{name}-last.pth").exists()
        )
        return name, new_folder(output, name)

    def _begin(self):
        """What the main process says and writes before the first step."""
        settings, progress = self.settings, self.progress
        if progress.fresh:
            self.save()  # so that there is something to go on from at any moment
        processes = distributed.world_size()
        print(*describe_run(settings, self.data, self.start, self.device, processes), sep="\n")
        print(f"output   {self.folder}, {WEIGHTS}/{self.name}-*.pth", flush=True)
        write_arguments(self.folder, settings, progress)
        self.events = open_events(self.folder, progress.epoch * progress.steps)
        if progress.fresh:
            save_first_batches(self.folder, self.data.train, self.data.batches, self.tags)
        else:
            _remove_unfinished(self.last_path)
        if progress.history:
            write_results(self.folder, progress.history)

    def _epoch(self):
        """Train on an epoch, or on what is left of it, and evaluate; False when the user has stopped it."""
        settings, progress, data = self.settings, self.progress, self.data
        steps = progress.steps
        data.batches.start(progress.epoch, progress.step)
        data.train.set_epoch(progress.epoch)
        self.pending = []
        self.timer = time.monotonic()

        def rate_at(step):
            done = progress.epoch * steps + step
            return learning_rate(
                settings.recipe, settings.learning_rate, settings.config.steps, done, steps, settings.epochs
            )

        if progress.step < steps:
            anchors = settings.config.anchors
            train_epoch(
                self.learner,
                data.train_loader,
                data.batches,
                settings.recipe,
                anchors,
                rate_at,
                progress.step,
                self._after_step,
            )
        evaluate = (progress.epoch + 1) % settings.eval_interval == 0 or progress.epoch + 1 == settings.epochs
        stopped = self._is_stopped()
        if stopped or evaluate:
            self.save()
        figures = {}
        if evaluate and not stopped:
            evaluation, stopped = self.evaluate(self.learner.best_network)
            figures = distributed.from_main(_figures(evaluation))
        if stopped:
            return False
        better = figures.get("AP50", -1) > progress.best_ap50
        if better:
            progress.best_ap50, progress.best_epoch = figures["AP50"], progress.epoch + 1
            # Without the results in COCO's format, which are large and not drawn.
            self.evaluation = evaluation and dataclasses.replace(evaluation, results=[])
        self._end_epoch(rate_at(steps - 1), figures, better)
        return True

    def _is_stopped(self):
        return distributed.any_process(bool(self.stop), self.device)

    def _after_step(self, step, losses, rate):
        """Note a step's losses, look at them now and then, save in between; True if the run is to stop."""
        self.pending.append(losses)
        last = step + 1 == self.progress.steps
        if self.device.type != "cpu" and len(self.pending) < CHECK_STEPS and not last:
            return False
        self._look_at_losses()
        self.screen.step(rate)
        if self._is_stopped():
            return True
        if not last and time.monotonic() - self.last_save > self.settings.save_interval:
            self.save()
        return False

    def _look_at_losses(self):
        """Wait for the device, add up the losses of the steps since the last look; fail if one is not finite."""
        for row in torch.stack(self.pending).double().cpu().tolist():
            if not all(map(math.isfinite, row)):
                values = ", ".join(f"{name} {value:g}" for name, value in zip(Losses._fields, row, strict=True))
                self._fail(self.progress.step, f"the loss is not finite ({values})")
            self.progress.add(row)
        self.pending = []
        now = time.monotonic()
        self.progress.seconds += now - self.timer
        self.timer = now

    def _fail(self, step, what):
        """End the run because of what came out of one step of this epoch."""
        if not distributed.is_main():
            raise SystemExit(1)  # the main process says it
        epoch, index = self.progress.epoch, self.data.train.index
        names = [index.images[number].name for number in self.data.batches.numbers(epoch, step).tolist()]
        shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        without = " or go on without --amp" if self.learner.amp else ""
        raise RunError(
            f"{what} in epoch {epoch + 1}, batch {step + 1}; images: {shown}. Check the data with "
            f"tools/check_dataset.py, or go on with a lower rate{without}: {_resume_command(self.last_path)} --lr "
            f"{self.settings.learning_rate / 10:g}; that checkpoint is whole, it was saved before"
        )

    def evaluate(self, network):
        """Measure a network on the val list, on all processes.

        Returns:
            (Evaluation on the main process and None on the others, whether the user has stopped the run meanwhile)
        """
        config, index = self.settings.config, self.data.val.index
        distributed.same_everywhere(network)
        # A plain copy: the runtime has a layout of its own, in which results are the same for any number of threads.
        detector = Detector(network.classes, network.anchor_num)
        detector.load_state_dict(network.state_dict())
        runtime = TorchRuntime(detector, config, self.device)
        batches = itertools.takewhile(lambda _: not self.stop, self.data.val_loader)
        detections = collect_detections(
            functools.partial(predict_batch, runtime), batches, len(index), shown=distributed.is_main()
        )
        if self._is_stopped():
            return None, True
        detections = distributed.gather_lists(detections)
        if detections is None:
            return None, False
        return measure(detections, index, (config.width, config.height), config.class_names), False

    def _end_epoch(self, rate, figures, better):
        progress = self.progress
        row = {
            "epoch": progress.epoch + 1,
            "step": (progress.epoch + 1) * progress.steps,
            "learning_rate": rate,
            **progress.mean_losses(),
            "images_per_second": round(self.screen.speed(), 2),
            **figures,
        }
        progress.history.append(row)
        if distributed.is_main():
            self._check_weights()
        progress.next_epoch()
        self.screen.epoch(row, better)
        if not distributed.is_main():
            return
        if figures:
            name = f"{self.name}-{progress.epoch}-epoch-{row['original_AP']:.6f}ap-model.pth"
            save_weights(WEIGHTS / name, self.learner.best_network)
            if better:
                save_weights(self.best_path, self.learner.best_network)
        write_results(self.folder, progress.history)
        draw_results(self.folder, progress.history)
        write_events(self.events, row)
        # Last, so that a run that is killed before does all of this again.
        self.save()

    def save(self):
        """Write everything that is needed to go on; the processes that are not the main one do nothing."""
        self.last_save = time.monotonic()
        if not distributed.is_main():
            return
        self._check_weights()
        state = {
            "name": self.name,
            "folder": str(self.folder),
            "options": self.options,
            "progress": dataclasses.asdict(self.progress),
        }
        save_training(self.last_path, self.learner, state)

    def _check_weights(self):
        """A loss shows what the step before it has done to the weights; none of them is saved before it is seen."""
        for name, tensor in self.learner.detector.state_dict().items():
            if not torch.isfinite(tensor).all():
                self._fail(max(self.progress.step - 1, 0), f"{name} is not finite any more")

    def _out_of_patience(self):
        patience, progress = self.settings.patience, self.progress
        # Only an evaluation can tell, however few epochs patience has and however far apart evaluations are.
        told = bool(patience) and bool(progress.history) and "AP50" in progress.history[-1] and progress.step == 0
        waited = progress.epoch - progress.best_epoch
        out = told and waited >= patience
        if out:
            self.screen.say(f"no better AP50 since epoch {progress.best_epoch}, {waited} epochs ago: it ends here")
        return out

    def _picture_best(self):
        """Draw what the best weights detect, on the main process; False when the user stops that."""
        config, index = self.settings.config, self.data.val.index
        if self.progress.best_epoch == 0:
            return True  # nothing was evaluated
        if distributed.from_main(self.evaluation is None):
            network = Detector(config.classes, config.anchor_num).to(self.device)
            if distributed.is_main():
                load_weights(network, self.best_path, asked_by=config.path)
            self.evaluation, stopped = self.evaluate(network)
            if stopped:
                return False
        if distributed.is_main():
            write_plots(self.folder, self.evaluation, config, index)
            frame = (config.width, config.height)
            save_predictions(self.folder / "val_predictions.jpg", index, self.evaluation.detections, frame, self.tags)
        return True

    def _end(self, finished):
        progress = self.progress
        if self.events is not None:
            self.events.close()
        if not finished:
            place = f"in epoch {progress.epoch + 1}, after {progress.step} of its {progress.steps} steps"
            where = place if progress.epoch < self.settings.epochs else "after the last epoch"
            print(f"stopped {where}; go on with: {_resume_command(self.last_path)}")
            return
        if progress.best_epoch:
            print(f"best     AP50 {progress.best_ap50:.4f} after epoch {progress.best_epoch}: {self.best_path}")
        print(f"wrote    {self.folder}/: {', '.join(sorted(path.name for path in self.folder.iterdir()))}")
        print(f"wrote    {WEIGHTS}/{self.name}-*.pth")


def _own_device(name):
    """With several processes a machine, each takes the GPU of its number."""
    return f"cuda:{distributed.local_rank()}" if name in ("auto", "cuda") and torch.cuda.is_available() else name


def _figures(evaluation):
    """Columns of results.csv."""
    if evaluation is None:
        return {}
    original, figures = evaluation.original, evaluation.coco.figures
    return {
        "AP50": figures["AP50"],
        "AP": figures["AP"],
        "precision": original.precision,
        "recall": original.recall,
        "original_AP": original.ap,
        "F1": original.f1,
    }


def _resume_command(path):
    processes = os.environ.get("LOCAL_WORLD_SIZE")
    program = f"torchrun --nproc_per_node={processes}" if processes else "python3"
    return f"{program} train.py --resume {path}"


@contextlib.contextmanager
def _resumable(path):
    """Say how to go on after what is no fault of the run."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of memory: {str(error).splitlines()[0]} Take a smaller --batch-size, or more subdivisions in the "
            f".data file, and go on with: {_resume_command(path)}"
        ) from error
    except RuntimeError as error:
        if not distributed.is_lost_process(error):
            raise
        # All that are left notice it; two of them say it, as one may be the one that has gone.
        if distributed.rank() > 1:
            raise SystemExit(1) from error
        raise RunError(f"another process of this run has ended; go on with: {_resume_command(path)}") from error


def _remove_unfinished(path):
    """Remove what a process that was killed while it wrote `path` has left beside it."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}-????????{path.suffix}"):
        left.unlink(missing_ok=True)
