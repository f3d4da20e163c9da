"""test.py as a user runs it: its output, its files, and its error messages."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from model.detector import Detector
from tests.detect.test_video import FakeCapture
from tests.helpers.random_detector import add_description
from utils import cli
from utils.dataset.images import read_image
from utils.dataset.labels import parse_labels
from utils.detect import sources, video

pytestmark = pytest.mark.slow

RELEASED = "coco2017-0.241078ap-model.pth"
NAMES = ("猫", "hot dog/bun", "собака")
DATA = """[name]
model_name=toy
[train-configure]
epochs=1
steps=1
batch_size=1
subdivisions=1
learning_rate=0.001
[model-configure]
classes=3
width=96
height=64
anchor_num=3
anchors=10,10, 20,20, 30,30, 40,40, 50,50, 60,60
[data-configure]
train=None
val=None
names=toy.names
"""


@pytest.fixture(scope="module")
def script(repo):
    """test.py as a module, loaded by its path because Python has a module of the same name."""
    specification = importlib.util.spec_from_file_location("test_script", repo / "test.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A .data file, class names in three scripts, and random weights that detect objects everywhere."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "toy.data").write_text(DATA, encoding="utf-8")
    (folder / "toy.names").write_text("\n".join(NAMES), encoding="utf-8")
    torch.manual_seed(0)
    detector = Detector(3, 3)
    torch.nn.init.constant_(detector.output_obj_layers.bias, 3)
    torch.save(detector.state_dict(), folder / "toy.pth")
    return folder


@pytest.fixture
def run(script, toy, tmp_path, monkeypatch, capfd):
    """Run test.py in this process in an empty folder, with the toy model: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        defaults = ["--data", str(toy / "toy.data"), "--weights", str(toy / "toy.pth"), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["test.py", *defaults, *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.run(script.build_parser(), script.main)
        return (stop.value.code, *capfd.readouterr())

    return run


@pytest.fixture
def images(tmp_path):
    """A folder with images of every kind and a file that is not an image."""
    folder = tmp_path / "my images"
    (folder / "sub").mkdir(parents=True)
    colors = np.random.default_rng(0).integers(0, 256, (45, 60, 3), np.uint8)
    gray = colors[..., 0]
    Image.fromarray(colors).save(folder / "größe 猫.JPG")
    Image.fromarray(gray).save(folder / "gray.png")
    Image.fromarray(np.dstack((colors, gray))).save(folder / "rgba.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(colors[:1, :1]).save(folder / "one.png")
    Image.fromarray(np.resize(colors, (20, 20_000, 3))).save(folder / "sub" / "long.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(colors).save(folder / "turned.jpg", exif=turned)
    (folder / "broken.jpg").write_text("not an image")
    return folder


SIZES = {
    "größe 猫.JPG": (60, 45),
    "gray.png": (60, 45),
    "rgba.png": (60, 45),
    "deep.png": (60, 45),
    "one.png": (1, 1),
    "sub/long.png": (20_000, 20),
    "turned.jpg": (45, 60),
}


def make_video(path, frames=7, fps=12.5):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), index * 30, np.uint8))
    writer.release()
    return path


def test_one_image_gives_the_boxes_of_the_original_project(run_script, shared, repo, tmp_path):
    weights = shared / "reference" / RELEASED
    result = run_script(
        "test.py",
        "--data",
        repo / "data/coco.data",
        "--weights",
        weights,
        "--img",
        repo / "img/coffee.jpg",
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["class", "score", "x1", "y1", "x2", "y2"]
    assert {line.split()[0] for line in lines[1:4]} == {"diningtable", "cup"}
    # The cup's box in the image's pixels.
    assert [float(value) for value in lines[2].split()[1:]] == pytest.approx([0.54, 170, 17, 413, 247], abs=2)
    assert [line.split()[0] for line in lines[5:]] == ["model", "device", "conf", "time", "wrote"]
    assert RELEASED in lines[5]
    for step in ("read", "pre-processing", "network", "post-processing"):
        assert f"{step} " in lines[8]
    assert result.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["test_result.png"]
    drawn, image = read_image(tmp_path / "test_result.png"), read_image(repo / "img/coffee.jpg")
    assert drawn.shape == image.shape
    assert (drawn != image).any()


@pytest.mark.parametrize(
    ("name", "classes"),
    [("astronaut", {"person"}), ("cameraman", {"person"}), ("coffee", {"cup"}), ("hopper", {"person", "tie"})],
)
def test_the_objects_of_the_sample_images_are_detected(run, shared, repo, name, classes, tmp_path):
    weights, data = shared / "reference" / RELEASED, repo / "data/coco.data"
    status, _, errors = run("--data", data, "--weights", weights, "--img", repo / f"img/{name}.jpg", "--json", "x.json")
    assert (status, errors) == (0, "")
    (frame,) = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["frames"]
    assert classes <= {found["name"] for found in frame["detections"]}


def test_every_kind_of_image_in_a_folder(run, images, tmp_path):
    status, output, errors = run("--img", images, "--json", "found.json", "--txt", "--crop", "--conf", 0.1)
    assert status == 1
    assert [line for line in errors.splitlines() if "broken.jpg" in line and "skipped" in line]
    assert "skipped 1 of 8 images" in output
    assert "(mean of 7)" in output

    folder = tmp_path / "runs" / "test" / "my images"
    content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert content["skipped"] == [str(images / "broken.jpg")]
    found = {os.path.relpath(frame["file"], images).replace("\\", "/"): frame for frame in content["frames"]}
    assert {name: (frame["width"], frame["height"]) for name, frame in found.items()} == SIZES
    for name, (width, height) in SIZES.items():
        assert read_image(folder / name).shape == (height, width, 3)
        labels = folder / "labels" / f"{name.rsplit('.', 1)[0]}.txt"
        rows = parse_labels(labels.read_text(), classes=3).labels
        detections = found[name]["detections"]
        assert [detection["class"] for detection in detections] == rows[:, 0].astype(int).tolist()
        for detection, row in zip(detections, rows, strict=True):
            assert detection["score"] > 0.1
            assert detection["name"] == NAMES[detection["class"]]
            x1, y1, x2, y2 = detection["box"]
            assert 0 <= x1 <= x2 <= width
            assert 0 <= y1 <= y2 <= height
            middle = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            assert row[1:3].tolist() == pytest.approx(middle, abs=0.011)  # 0.01 pixels, in an image of 1 pixel
    count = sum(len(frame["detections"]) for frame in content["frames"])
    assert count > 7
    assert len(list((folder / "crops").rglob("*.png"))) == count
    assert {path.name for path in (folder / "crops").iterdir()} <= {"猫", "hot dog_bun", "собака"}


def test_a_second_run_keeps_the_results_of_the_first(run, images, tmp_path):
    for _ in range(2):
        status, output, _ = run("--img", images / "sub")
        assert status == 0
    assert "runs/test/sub-2" in output.replace("\\", "/")
    assert sorted(path.name for path in (tmp_path / "runs/test").iterdir()) == ["sub", "sub-2"]


def test_output_is_the_folder_also_for_one_image(run, images, tmp_path):
    status, _, _ = run("--img", images / "gray.png", "--output", "here/now")
    assert status == 0
    assert [path.name for path in (tmp_path / "here/now").iterdir()] == ["gray.png"]
    assert not (tmp_path / "test_result.png").exists()


def test_a_json_file_may_be_in_the_folder_of_the_results(run, images, tmp_path):
    status, _, _ = run("--img", images / "gray.png", "--output", "out", "--json", "out/json/x.json")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["gray.png", "json"]


def test_labels_of_one_image_go_to_a_folder(run, images, tmp_path):
    status, _, _ = run("--img", images / "gray.png", "--txt")
    assert status == 0
    assert (tmp_path / "test_result.png").exists()
    assert [path.name for path in (tmp_path / "runs/test/gray").iterdir()] == ["labels"]


def test_classes_and_max_det_limit_the_detections(run, images, tmp_path):
    status, _, _ = run(
        "--img", images / "gray.png", "--classes", "2,0", "--max-det", 4, "--conf", 0, "--json", "x.json"
    )
    assert status == 0
    (frame,) = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["frames"]
    assert {detection["class"] for detection in frame["detections"]} <= {0, 2}
    assert len(frame["detections"]) == 4
    scores = [detection["score"] for detection in frame["detections"]]
    assert scores == sorted(scores, reverse=True)


def test_described_weights_need_no_data_file(run_script, toy, images, tmp_path):
    shutil.copyfile(toy / "toy.pth", tmp_path / "w.pth")
    add_description(tmp_path / "w.pth", toy / "toy.data")
    options = ("--weights", "w.pth", "--img", images / "gray.png", "--txt", "--output", "found")
    result = run_script("test.py", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "w.pth (PyTorch, 96x64, 3 classes)" in result.stdout
    assert (tmp_path / "found/labels/gray.txt").read_text(encoding="utf-8")


def test_the_default_threshold_is_that_of_the_weights(run_script, toy, images, tmp_path):
    shutil.copyfile(toy / "toy.pth", tmp_path / "w.pth")
    options = ("--weights", "w.pth", "--img", images / "gray.png", "--output", "found", "--json", "found.json")
    found = {}
    for conf, given in ((0.55, ()), (0.55, ("--data", toy / "toy.data")), (0.55, ("--conf", 0.6)), (None, ())):
        add_description(tmp_path / "w.pth", toy / "toy.data", **({} if conf is None else {"conf": conf}))
        result = run_script("test.py", *options, *given, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        content = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
        assert all(detection["score"] > content["conf"] for detection in content["frames"][0]["detections"])
        found[(conf, *given[:1])] = content["conf"], re.search(r"^conf .*", result.stdout, re.MULTILINE)[0]
    assert {key: conf for key, (conf, _) in found.items()} == {
        (0.55,): 0.55,
        (0.55, "--data"): 0.55,
        (0.55, "--conf"): 0.6,
        (None,): 0.3,
    }
    lines = {key: line for key, (_, line) in found.items()}
    assert [key for key, line in lines.items() if "weights" in line] == [(0.55,), (0.55, "--data")]
    assert [key for key, line in lines.items() if "default" in line] == [(None,)]


def test_weights_of_another_data_file_are_refused(run, toy, images, tmp_path):
    shutil.copyfile(toy / "toy.pth", tmp_path / "w.pth")
    add_description(tmp_path / "w.pth", toy / "toy.data")
    other = tmp_path / "other.data"
    (tmp_path / "other.names").write_text("\n".join(reversed(NAMES)), encoding="utf-8")
    other.write_text(DATA.replace("toy.names", "other.names"))
    status, _, err = run("--data", other, "--weights", "w.pth", "--img", images / "gray.png")
    assert status == 2
    assert re.search(r"w\.pth: .*class 0 .*other\.data", err)


def test_classes_can_be_given_by_name(run, images, tmp_path):
    status, _, _ = run("--img", images / "gray.png", "--classes", "собака,0", "--conf", 0, "--json", "x.json")
    assert status == 0
    content = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert content["classes"] == [0, 2]
    assert {detection["class"] for detection in content["frames"][0]["detections"]} <= {0, 2}


def test_labels_can_be_hidden_and_the_line_width_chosen(run, tmp_path):
    plain = np.full((480, 640, 3), 128, np.uint8)
    Image.fromarray(plain).save(tmp_path / "gray.png")
    changed = []
    for options in ((), ("--hide-labels",), ("--hide-labels", "--line-width", 1)):
        status, _, errors = run("--img", "gray.png", "--max-det", 1, *options)
        assert status == 0
        assert ("--font" in errors) == (not options)  # no warning about characters that are not drawn
        changed.append((read_image(tmp_path / "test_result.png") != plain).any(2).sum())
    assert changed[0] > changed[1] > changed[2] > 0


@pytest.mark.parametrize(
    ("option", "value"), [("--img", "gone.jpg"), ("--weights", "gone.pth"), ("--data", "gone.data"), ("--font", "gone")]
)
def test_a_missing_input_is_reported_without_importing_pytorch(toy, images, repo, option, value):
    inputs = {"--img": images / "gray.png", "--weights": toy / "toy.pth", "--data": toy / "toy.data", option: value}
    arguments = [str(part) for item in inputs.items() for part in item]
    code = (
        f"import runpy, sys; sys.modules['torch'] = None; sys.argv[0] = {str(repo / 'test.py')!r}; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {value}: ")


def open_with(monkeypatch, capture):
    """Let sources be opened with `capture`; written videos are still read with OpenCV."""
    monkeypatch.setattr(sources, "cv2", SimpleNamespace(**{**vars(cv2), "VideoCapture": capture}))


def test_a_stream_that_drops_gives_one_video_and_no_password_anywhere(run, tmp_path, monkeypatch):
    class Stream(FakeCapture):
        def __init__(self, url):
            opened.append(url)
            super().__init__([np.zeros((48, 64, 3), np.uint8)] * 4, opened=len(opened) <= 3)

    opened = []
    monkeypatch.setattr(video, "_GIVE_UP", 0.3)
    monkeypatch.setattr(video, "_WAITS", (0.05, 0.1))
    open_with(monkeypatch, Stream)
    status, output, errors = run("--img", "rtsp://me:geheim@cam/live?key=geheim", "--txt", "--json", "x.json")
    monkeypatch.undo()
    assert status == 1
    assert "opened rtsp://cam/live again 3 times" in output
    assert len([line for line in errors.splitlines() if line.startswith("warning: rtsp://cam/live: ")]) == 4
    folder = tmp_path / "runs/test/cam_live"
    capture = cv2.VideoCapture(str(folder / "cam_live.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert len(list((folder / "labels").iterdir())) == 12
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert [record["frame"] for record in json.loads(text)["frames"]] == list(range(12))
    assert set(opened) == {"rtsp://me:geheim@cam/live?key=geheim"}
    assert "geheim" not in output + errors + text + "".join(map(str, tmp_path.rglob("*")))


def test_a_run_without_detections(run, images, tmp_path):
    status, output, _ = run("--img", images / "gray.png", "--conf", 1, "--txt")
    assert status == 0
    assert output.startswith("nothing found\n")
    assert (tmp_path / "runs/test/gray/labels/gray.txt").read_text() == ""


def test_a_video_keeps_its_frames_and_rate(run, tmp_path):
    path = make_video(tmp_path / "street.avi")
    status, output, errors = run("--img", path, "--txt", "--json", "x.json")
    assert (status, [line for line in errors.splitlines() if "--font" not in line]) == (0, [])
    assert "frames" in output.splitlines()[0]
    folder = tmp_path / "runs/test/street"
    capture = cv2.VideoCapture(str(folder / "street.mp4"))
    frames = 0
    while capture.read()[0]:
        frames += 1
    assert frames == 7
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    assert sorted(path.name for path in (folder / "labels").iterdir()) == [f"street-{n:06}.txt" for n in range(7)]
    records = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["frames"]
    assert [record["frame"] for record in records] == list(range(7))


class Camera:
    """Ctrl-C stops the run after some frames."""

    def __init__(self, frames):
        self.frames_left = frames

    def isOpened(self):
        return True

    def get(self, key):
        return 0.0

    def read(self):
        if not self.frames_left:
            raise KeyboardInterrupt
        self.frames_left -= 1
        return True, np.zeros((48, 64, 3), np.uint8)

    def release(self):
        pass


def test_a_camera_runs_until_it_is_stopped(run, tmp_path, monkeypatch):
    open_with(monkeypatch, lambda index: Camera(5))
    status, output, _ = run("--img", 0)
    monkeypatch.undo()
    assert status == 0
    assert "wrote" in output
    capture = cv2.VideoCapture(str(tmp_path / "runs/test/camera0/camera0.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5


def test_an_interrupted_video_keeps_the_results_of_its_first_frames(run, tmp_path, monkeypatch):
    (tmp_path / "street.mp4").touch()
    open_with(monkeypatch, lambda path: Camera(5))
    status, output, _ = run("--img", "street.mp4", "--txt", "--json", "x.json")
    monkeypatch.undo()
    assert status == 130
    assert "interrupted after 5" in output
    capture = cv2.VideoCapture(str(tmp_path / "runs/test/street/street.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert len(json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["frames"]) == 5


def test_a_camera_that_is_stopped_before_its_first_frame(run, tmp_path, monkeypatch):
    open_with(monkeypatch, lambda index: Camera(0))
    status, output, errors = run("--img", 0)
    assert (status, output) == (130, "")
    assert errors.endswith("error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_that_cannot_be_written_is_reported_before_the_run(run, images, tmp_path):
    status, output, errors = run("--img", images / "gray.png", "--json", images)
    assert (status, output) == (2, "")
    assert f"error: {images}: expected a file to write" in errors
    assert not (tmp_path / "test_result.png").exists()


def test_show_without_a_display_is_a_warning(run, images, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform != "linux":
        pytest.skip("only on Linux a window needs an environment variable")
    status, _, errors = run("--img", images / "gray.png", "--show")
    assert status == 0
    assert "warning: --show: " in errors
    assert (tmp_path / "test_result.png").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--img", "gone.jpg"], 2, "error: gone.jpg: "),
        (["--img", "gone.mp4"], 2, "error: gone.mp4: "),
        (["--img", "none/*.jpg"], 2, "error: none/*.jpg: "),
        (["--img", "empty"], 2, "error: empty: "),
        (["--img", "text.jpg"], 1, "warning: text.jpg: expected an image"),
        (["--img", "text.mp4"], 2, "error: text.mp4: expected a video"),
        (["--img", "text.md"], 2, "error: text.md:1: "),
        (["--img", "987"], 2, "error: camera 987: "),
        (["--img", "a.png", "--classes", "3"], 2, "error: --classes: expected class ids from 0 to 2, got 3"),
        (["--img", "a.png", "--classes=-1"], 2, "error: --classes: expected class ids from 0 to 2, got -1"),
        (["--img", "a.png", "--classes", "собак"], 2, "error: --classes: expected class ids or names, got 'собак'; "),
        (["--img", "a.png", "--line-width", "0"], 2, "argument --line-width: expected"),
        (["--img", "a.png", "--device", "cuda:77"], 2, "error: --device cuda:77: "),
        (["--img", "a.png", "--device", "toaster"], 2, "error: --device toaster: "),
        (["--img", "a.png", "--weights", "gone.pth"], 2, "error: gone.pth: "),
        (["--img", "a.png", "--weights", "text.md"], 2, "error: text.md: "),
        (["--img", "a.png", "--data", "gone.data"], 2, "error: gone.data: "),
        (["--img", "a.png", "--font", "gone.ttf"], 2, "error: gone.ttf: cannot read"),
        (["--img", "rtsp:/x"], 2, "error: rtsp:"),
        (["--img", "htp://x/a.jpg"], 2, "error: htp:"),
        (["--img", "http://127.0.0.1:1/a.jpg"], 1, "error: http://127.0.0.1:1/a.jpg: cannot download"),
        (["--img", "rtsp://127.0.0.1:1/x"], 2, "error: rtsp://127.0.0.1:1/x: expected a video or stream"),
        (["--img", "a.png", "--font", "text.md"], 2, "error: text.md: expected a TrueType or OpenType font"),
        (["--img", "a.png", "--output", "a.png/x"], 2, "error: a.png/x: "),
        (["--img", "a.png", "--json", "empty"], 2, "error: empty: "),
        (["--img", "a.png", "--conf", "1.5"], 2, "argument --conf: expected"),
        (["--img", "a.png", "--iou", "x"], 2, "argument --iou: expected"),
        (["--img", "a.png", "--max-det", "0"], 2, "argument --max-det: expected"),
        ([], 2, "required: --img"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, arguments, status, message):
    (tmp_path / "empty").mkdir()
    for name in ("text.jpg", "text.mp4", "text.md"):
        (tmp_path / name).write_text("text")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code, output, errors = run(*arguments)
    assert code == status
    assert message in errors
    assert "Traceback" not in errors
    assert "wrote" not in output


def test_help_shows_all_options_and_an_example(run_script):
    result = run_script("test.py", "--help")
    assert result.returncode == 0
    assert "python3 test.py --data data/coco.data" in result.stdout
    for option in (
        "--img",
        "--conf",
        "--iou",
        "--max-det",
        "--device",
        "--classes",
        "--hide-labels",
        "--line-width",
        "--json",
        "--txt",
        "--crop",
        "--show",
    ):
        assert option in result.stdout
