"""train.py on a few small images: what it writes, how it is resumed, how it fails."""

import contextlib
import errno
import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import pytest
import torch

import train
from model.detector import Detector
from tests.helpers.training_files import assert_equal, results, write_shapes
from utils.errors import InputError, RunError
from utils.training import run as training_run
from utils.training.plan import plan

pytestmark = pytest.mark.slow

CLASSES = 6


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, train=8, val=4)
    return folder


@pytest.fixture
def run(shapes, tmp_path, monkeypatch):
    """Run train.py on the shapes in an empty folder, `run("--epochs", 1)`, and return its exit status."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments, data=shapes / "small.data"):
        given = [] if "--resume" in arguments else ["--data", data, "--workers", 0]
        arguments = [str(argument) for argument in (*given, *arguments)]
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return train.main(train.build_parser().parse_args(arguments))

    return start


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """Folder of a finished run of one epoch with seed 1."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        arguments = ["--data", str(shapes / "small.data"), "--workers", "0", "--epochs", "1", "--seed", "1"]
        assert train.main(train.build_parser().parse_args(arguments)) == 0
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """Copy the finished run into the empty folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)


def load(path):
    return torch.load(path, weights_only=True)


# Files of a run


def test_a_run_writes_weights_metrics_and_images(run, tmp_path, capsys):
    assert run() == 0
    folder = tmp_path / "runs/train/small"
    rows = results(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    for row in rows:
        parts = sum(float(row[name]) for name in ("box", "objectness", "classes"))
        assert float(row["total"]) == pytest.approx(parts, rel=1e-5)
        name = f"small-{row['epoch']}-epoch-{float(row['original_AP']):.6f}ap-model.pth"
        assert (tmp_path / "weights" / name).is_file()
    detector = Detector(CLASSES, 3)
    detector.load_state_dict(load(tmp_path / "weights/small-best.pth"))  # a state dict with exactly the detector's keys
    saved = load(tmp_path / "weights/small-last.pth")
    assert saved["ema"] is None
    assert saved["progress"]["epoch"] == 3

    for name in ("train_batch_1.jpg", "train_batch_2.jpg", "val_predictions.jpg", "results.png"):
        assert min(cv2.imread(str(folder / name)).shape[:2]) > 300, name
    for name in ("precision_recall.png", "f1.png", "confusion_matrix.png", "worst.jpg"):
        assert (folder / name).stat().st_size > 5000, name
    assert list(folder.glob("events.out.tfevents.*"))
    arguments = json.loads((folder / "args.json").read_text(encoding="utf-8"))
    assert arguments["settings"]["epochs"] == 3
    assert arguments["settings"]["seed"] == 0
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in arguments["lists_sha256"].values())
    assert arguments["lists_sha256"].keys() == {"train", "val"}
    assert arguments["versions"]["torch"] == torch.__version__

    output = capsys.readouterr()
    assert "train    8 images, " in output.out
    assert "run      recipe default, 3 epochs of 2 steps (6 in all), batch 4, evaluation every epoch" in output.out
    assert f"seed 0, device cpu ({torch.get_num_threads()} thread" in output.out
    assert "epoch 3/3  total " in output.out
    assert "wrote    weights/small-*.pth" in output.out
    assert "warning: train: classes with fewer than 100 boxes" in output.err


def test_epochs_that_take_less_time_than_saving_are_not_all_saved(run, tmp_path, monkeypatch):
    saved = []
    original = training_run.save_training
    monkeypatch.setattr(
        training_run, "save_training", lambda *given: saved.append(given[2]["progress"]["epoch"]) or original(*given)
    )
    for pause, epochs in ((1e9, [0, 3, 4]), (-1, [0, 1, 2, 3, 3, 4])):
        saved.clear()
        monkeypatch.setattr(training_run, "SAVE_PAUSE", pause)
        assert run("--epochs", 4, "--eval-interval", 4) == 0
        assert saved == epochs


def test_few_epochs_in_the_data_file_get_a_hint(run, tmp_path, capsys):
    run("--epochs", 1)
    assert "hint " not in capsys.readouterr().out
    run()
    (epochs,) = re.findall(r"^hint .*--epochs (\d+)$", capsys.readouterr().out, re.MULTILINE)
    planned = plan(8)
    assert int(epochs) * 2 >= planned.epochs * (8 // planned.batch_size)


def test_the_weights_name_the_threshold_with_the_best_f1(run, tmp_path):
    assert run("--epochs", 2) == 0
    rows = results(tmp_path / "runs/train/small")
    saved = load(tmp_path / "weights/small-last.pth")["model"].description
    if rows[-1]["conf"] == "nan":  # nothing found
        assert saved["conf"] == 0.3
    else:
        assert saved["conf"] == float(rows[-1]["conf"])
        assert set(saved["training"]["class thresholds"]) <= set(saved["names"])
    assert run("--resume", "weights/small-last.pth", "--epochs", 2) == 0
    again = load(tmp_path / "weights/small-last.pth")["model"].description
    assert again["conf"] == saved["conf"]
    assert again["training"]["start"] == saved["training"]["start"] == "random weights (scratch)"
    assert again["training"]["class thresholds"] == saved["training"]["class thresholds"]


def test_the_seed_determines_the_weights(run, copy, tmp_path):
    for seed in (1, 2):
        run("--epochs", 1, "--seed", seed)
    first, again, other = (load(tmp_path / f"weights/small{suffix}-best.pth") for suffix in ("", "-2", "-3"))
    assert_equal(first, again)
    assert not torch.equal(first["fpn.conv1x1_2.0.weight"], other["fpn.conv1x1_2.0.weight"])


def test_a_frozen_backbone_does_not_change(run, tmp_path):
    torch.manual_seed(0)
    before = Detector(CLASSES, 3).state_dict()
    run("--epochs", 2, "--freeze-backbone")
    after = load(tmp_path / "weights/small-last.pth")["model"]
    for name, tensor in before.items():
        if name.startswith("backbone."):
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["output_obj_layers.bias"], after["output_obj_layers.bias"])


def test_the_saved_weights_are_the_ema(run, tmp_path):
    run("--epochs", 1, "--ema")
    saved, best = load(tmp_path / "weights/small-last.pth"), load(tmp_path / "weights/small-best.pth")
    assert_equal(saved["ema"], best)
    assert not torch.equal(saved["model"]["fpn.conv1x1_2.1.running_var"], best["fpn.conv1x1_2.1.running_var"])


def test_patience_ends_the_run(run, tmp_path, capsys):
    run("--epochs", 40, "--patience", 3, "--eval-interval", 2, "--lr", 1e-9)
    rows = results(tmp_path / "runs/train/small")
    metrics = [float(row["AP50"]) for row in rows if row["AP50"]]
    best = 2 * (metrics.index(max(metrics)) + 1)
    # Four epochs, because evaluations are two apart.
    assert len(rows) == best + 4 < 40
    assert f"epoch {best}, 4 epochs ago" in capsys.readouterr().out


def test_eval_interval(run, tmp_path):
    run("--epochs", 5, "--eval-interval", 2)
    evaluated = [row["epoch"] for row in results(tmp_path / "runs/train/small") if row["AP50"]]
    assert evaluated == ["2", "4", "5"]


# Resuming


def test_a_finished_run_continues_with_more_epochs(run, copy, tmp_path, capsys):
    assert run("--resume", "--epochs", 2, "--ema") == 0  # the EMA starts with the weights
    assert "continued from weights/small-last.pth" in capsys.readouterr().out
    assert len(results(tmp_path / "runs/train/small")) == 2
    assert load(tmp_path / "weights/small-last.pth")["ema"] is not None


def test_resume_can_unfreeze_the_backbone(run, tmp_path):
    run("--epochs", 1, "--freeze-backbone")
    name = "backbone.first_conv.0.weight"
    before = load(tmp_path / "weights/small-last.pth")["model"][name]
    assert run("--resume", "--epochs", 2, "--no-freeze-backbone") == 0
    assert not torch.equal(before, load(tmp_path / "weights/small-last.pth")["model"][name])


def test_resuming_a_finished_run_writes_its_plots_again(run, copy, tmp_path):
    folder = tmp_path / "runs/train/small"
    for name in ("results.csv", "val_predictions.jpg"):
        (folder / name).unlink()
    (tmp_path / "weights/.small-last-abcd1234.pth").write_bytes(b"half of it")  # left by a killed run
    assert run("--resume") == 0
    assert len(results(folder)) == 1
    assert (folder / "val_predictions.jpg").exists()
    assert not list((tmp_path / "weights").glob(".*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"weights/none-last.pth: .*No such file"),
        (b"", r"none-last.pth: .*empty"),
        (b"no checkpoint", r"none-last.pth: expected "),
        ({"w": torch.zeros(2)}, r"none-last.pth: expected .*NAME-last.pth"),
        ([1, 2], r"none-last.pth: expected .*NAME-last.pth"),
        ({"model": {}, "optimiser": {}}, r"none-last.pth: expected .*NAME-last.pth"),
    ],
)
def test_files_that_cannot_be_resumed(run, tmp_path, content, message):
    path = tmp_path / "weights/none-last.pth"
    if content is not None:
        path.parent.mkdir()
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
    with pytest.raises(InputError, match=message):
        run("--resume", "weights/none-last.pth")


def test_resume_without_a_checkpoint(run):
    with pytest.raises(InputError, match=r"^--resume: .*NAME-last.pth"):
        run("--resume")


def other_data(folder, name="small", images=1, **changes):
    """Write a data set with one box per image and two classes; return its .data file."""
    folder.mkdir()
    (folder / "small.names").write_text("a\nb\n", encoding="utf-8")
    names = [f"{position}.png" for position in range(images)]
    for split in ("train", "val"):
        (folder / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    for image in names:
        cv2.imwrite(str(folder / image), torch.zeros(64, 64, 3, dtype=torch.uint8).numpy())
        (folder / image).with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    lists = {"train": "train.txt", "val": "val.txt"}
    return write_data_file(folder, model_name=name, classes=2, batch_size=1, **lists, **changes)


def run_files():
    """Content of all files of runs."""
    paths = [path for folder in ("weights", "runs") for path in Path(folder).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths}


def test_resume_finds_the_run_of_the_data_file(run, copy, tmp_path):
    before = run_files()
    data = other_data(tmp_path / "other", name="other")
    with pytest.raises(InputError, match=r"^--resume: .*other-last\.pth.* in weights/"):
        run("--resume", "--data", data)
    assert run_files() == before


def test_resume_takes_the_newest_run_of_the_model_name(run, copy, shapes, tmp_path, capsys):
    assert run("--epochs", 1) == 0
    assert run("--epochs", 1, data=other_data(tmp_path / "other", name="small-net")) == 0
    capsys.readouterr()
    assert run("--resume", "--data", shapes / "small.data", "--epochs", 2) == 0
    assert "weights/small-2-last.pth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"anchors": "2,2, 4,4, 6,6, 8,8, 10,10, 12,12"}, "anchors"),
        ({"width": 96}, "width"),
        ({"height": 96}, "height"),
        ({"model_name": "other"}, "model_name"),
        ({"names": "swapped.names"}, "names"),
        ({"train": "fewer.txt"}, "training images"),
    ],
)
def test_a_run_is_not_resumed_with_changes(run, shapes, copy, tmp_path, changes, key):
    folder = tmp_path / "changed"
    shutil.copytree(shapes, folder)
    names = (folder / "small.names").read_text(encoding="utf-8").split()
    (folder / "swapped.names").write_text("\n".join(reversed(names)), encoding="utf-8")
    images = sorted((folder / "shapes").rglob("train/*.*g"))[:4]
    (folder / "fewer.txt").write_text("\n".join(map(str, images)), encoding="utf-8")
    lines = (folder / "small.data").read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines) | changes
    (folder / "small.data").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    before = run_files()
    with pytest.raises(InputError, match=rf"weights/small-last.pth: {key}: .*--weights weights/small-last.pth"):
        run("--resume", "weights/small-last.pth", "--data", folder / "small.data", "--epochs", 2)
    assert run_files() == before


def test_a_run_is_not_resumed_with_another_recipe(run, copy):
    with pytest.raises(InputError, match=r"weights/small-last.pth: recipe: .*default.*original"):
        run("--resume", "--recipe", "original", "--epochs", 2)


def test_resume_and_weights_exclude_each_other(run, copy):
    with pytest.raises(InputError, match=r"--weights: .*--resume"):
        run("--resume", "--weights", "weights/small-last.pth")


def test_a_resumed_run_stays_in_its_folder(run, copy):
    with pytest.raises(InputError, match=r"--output elsewhere: .*runs/train/small"):
        run("--resume", "--output", "elsewhere", "--epochs", 2)


def test_a_copied_checkpoint_overwrites_no_other_run(run, copy, tmp_path):
    """A run of the same name is in weights/; the resumed copy gets its own files."""
    shutil.copyfile(tmp_path / "weights/small-last.pth", tmp_path / "backup.pth")
    before = run_files()
    assert run("--resume", "backup.pth", "--epochs", 2) == 0
    after = run_files()
    assert {path: after[path] for path in before} == before
    assert len(results(tmp_path / "runs/train/small-2")) == 2
    assert (tmp_path / "weights/small-2-last.pth").exists()


def test_resuming_a_copy_names_no_missing_weights(run, copy, tmp_path, capsys):
    """The weights of the best epoch are those of the run that was copied."""
    shutil.copyfile(tmp_path / "weights/small-last.pth", tmp_path / "backup.pth")
    assert run("--resume", "backup.pth") == 0
    (line,) = re.findall(r"^best .*$", capsys.readouterr().out, re.MULTILINE)
    assert "after epoch 1" in line
    assert "best.pth" not in line


def test_tensorboard_keeps_the_epochs_before_resume(run, tmp_path):
    """With larger batches an epoch has fewer steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("--epochs", 2, "--batch-size", 2)
    assert run("--resume", "--epochs", 3, "--batch-size", 4) == 0
    events = EventAccumulator(str(tmp_path / "runs/train/small")).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3]


def test_tensorboard_replaces_what_earlier_versions_wrote(run, copy, tmp_path):
    """They had the step as x-axis."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    folder = tmp_path / "runs/train/small"
    for path in folder.glob("events*"):
        path.unlink()
    with SummaryWriter(folder) as events:
        events.add_scalar("loss/total", 1.0, 100)
    run("--resume", "--epochs", 3)
    events = EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("loss/total")] == [1, 2, 3]


def test_resuming_a_finished_run_says_so(run, copy, capsys):
    assert run("--resume") == 0
    assert re.search("^finished 1 epoch .*--epochs", capsys.readouterr().out, re.MULTILINE)


def test_a_checkpoint_without_description_is_resumed_with_a_warning(run, copy, tmp_path, capsys):
    path = tmp_path / "weights/small-last.pth"
    saved = load(path)
    saved["model"] = dict(saved["model"])
    torch.save(saved, path)
    assert run("--resume", "--epochs", 2) == 0
    assert "warning: weights/small-last.pth: " in capsys.readouterr().err


def test_the_weights_say_what_they_were_trained_for(run, shapes, tmp_path):
    assert run("--epochs", 1, "--seed", 3) == 0
    best, last = load(tmp_path / "weights/small-best.pth"), load(tmp_path / "weights/small-last.pth")
    names = (shapes / "small.names").read_text(encoding="utf-8").split()
    for description in (best.description, last["model"].description):
        assert description["names"] == names
        assert (description["width"], description["height"]) == (64, 64)
        assert description["training"]["seed"] == 3
        assert description["training"]["recipe"] == "default"
    assert best.description["training"]["epoch"] == 1
    # As users of the original load it.
    Detector(CLASSES, 3).load_state_dict(best)


def write_data_file(folder, **changes):
    """Write a .data file with these entries changed; its names and lists must exist."""
    lines = {
        **{"model_name": "small", "epochs": 1, "steps": "2", "batch_size": 4, "subdivisions": 1},
        **{"learning_rate": 0.01, "pre_weights": "scratch", "classes": CLASSES, "width": 64, "height": 64},
        **{"anchor_num": 3, "anchors": "3,3, 4,4, 7,7, 11,11, 18,18, 30,30", "names": "small.names", **changes},
    }
    path = folder / "small.data"
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    return path


# Failures


def test_a_loss_that_is_not_finite_ends_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(train.cli, "MAX_RATE", 1e38)
    with pytest.raises(RunError) as caught:
        run("--lr", 1e30, "--epochs", 5)
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"not finite.* in epoch [1-5], batch [12]; images: 0000\d\.jpg, 0000\d\.jpg, ", message)
    assert "python3 train.py --resume weights/small-last.pth --lr 1e+29" in message
    for tensor in load(tmp_path / "weights/small-last.pth")["model"].values():
        assert torch.isfinite(tensor).all()


def test_a_full_disk_leaves_the_previous_checkpoint_intact(run, copy, tmp_path, monkeypatch):
    path = tmp_path / "weights/small-last.pth"
    before = path.read_bytes()
    whole = Path.write_bytes

    def fail_half_way(self, data):
        if self.suffix == ".pth":
            whole(self, bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return whole(self, data)

    monkeypatch.setattr(Path, "write_bytes", fail_half_way)
    with pytest.raises(RunError, match=r"^weights/small-\S+\.pth: .*No space"):
        run("--resume", "--epochs", 2)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert not list((tmp_path / "weights").glob(".*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "None"}, r"small.data: train: .*None"),
        ({"val": "None"}, r"small.data: val: .*None"),
        ({"train": "absent.txt"}, r"absent.txt"),
        (
            {"batch_size": 32, "subdivisions": 16},
            r"expected at least 16 images",
        ),
        ({"train": "empty/train.txt"}, r"empty/train.txt: expected .*boxes"),
        ({"pre_weights": "absent.pth"}, r"absent.pth: "),
    ],
)
def test_invalid_data(run, shapes, tmp_path, changes, message):
    folder = tmp_path / "d"
    (folder / "empty").mkdir(parents=True)
    cv2.imwrite(str(folder / "empty/a.png"), torch.zeros(64, 64, 3, dtype=torch.uint8).numpy())
    (folder / "empty/train.txt").write_text("a.png\n", encoding="utf-8")
    (folder / "small.names").write_text("\n".join("abcdef") + "\n", encoding="utf-8")
    lists = {"train": shapes / "shapes/train.txt", "val": shapes / "shapes/val.txt"}
    with pytest.raises(InputError, match=message):
        run(data=write_data_file(folder, **{**lists, **changes}))


def test_data_is_required(run, monkeypatch):
    with pytest.raises(InputError, match=r"^--data: expected"):
        train.main(train.build_parser().parse_args([]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: "),
        (["--epochs", "many"], "argument --epochs: "),
        (["--batch-size", "-4"], "argument --batch-size: "),
        (["--lr", "0"], "argument --lr: "),
        (["--lr", "nan"], "argument --lr: "),
        (["--lr", "inf"], "argument --lr: "),
        (["--workers", "-1"], "argument --workers: "),
        (["--seed", "x"], "argument --seed: "),
        (["--eval-interval", "0"], "argument --eval-interval: "),
        (["--patience", "-1"], "argument --patience: "),
        (["--save-interval", "1.5"], "argument --save-interval: "),
        (["--cache", "tape"], "argument --cache: "),
        (["--recipe", "soup"], "argument --recipe: "),
        (["--speed", "9"], "unrecognized arguments: --speed 9"),
    ],
)
def test_invalid_options(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        train.build_parser().parse_args(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("device", ["tpu9", "cuda:99"])
def test_a_missing_device(run, device):
    with pytest.raises(InputError, match=rf"^--device {device}: expected"):
        run("--device", device)


def test_an_error_is_one_line(run_script, tmp_path):
    done = run_script("train.py", "--data", "absent.data", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: absent.data: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_threads_are_kept_by_resume(run, tmp_path, capsys):
    before = torch.get_num_threads()
    try:
        assert run("--epochs", 1, "--threads", 2) == 0
        torch.set_num_threads(1)
        assert run("--resume", "--epochs", 2) == 0
        assert torch.get_num_threads() == 2
        assert capsys.readouterr().out.count("device cpu (2 threads)") == 2
    finally:
        torch.set_num_threads(before)


def test_a_loss_in_the_millions_is_warned_of_once(run, capsys):
    with contextlib.suppress(RunError):  # it may also become infinite
        run("--lr", 900, "--recipe", "original", "--epochs", 3)
    assert capsys.readouterr().out.count("warning: the loss is ") == 1


def test_unfinished_pictures_of_a_run_without_steps_are_removed(run, tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("utils.training.run.save_first_batches", stop)
        with pytest.raises(KeyboardInterrupt):
            run("--epochs", 1)
    left = tmp_path / "runs/train/small/.train_batch_1-abcd_123.jpg"
    left.touch()  # as a killed process leaves it
    assert run("--resume") == 0
    assert not left.exists()
