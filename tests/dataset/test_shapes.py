"""The synthetic data set: reproducible, with exact boxes, and classes that only the outline distinguishes."""

import hashlib
import itertools
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from utils.anchors import box_sizes, cluster, fit
from utils.config import read_config
from utils.dataset import shapes
from utils.dataset.index import load_index, open_list
from utils.dataset.shapes import CLASS_NAMES, IMAGE_SIZE, draw_image
from utils.errors import InputError

pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]
LABELS_HASH = "559a8b2649a44ff10ad7edad99e46738ef73c90a27e4ec75153c67764b4d2447"  # SHA-256 of the labels of 20 images


def draw(index, list_id=0, seed=0):
    return draw_image(np.random.default_rng((seed, list_id, index)))


def corners(labels):
    """[n, 4] integer pixels x1, y1, x2, y2 of labels [n, 5]."""
    centers, halves = labels[:, 1:3], labels[:, 3:] / 2
    return (np.concatenate((centers - halves, centers + halves), 1) * IMAGE_SIZE).round().astype(int)


def file_hashes(folder):
    """{relative path: hash of the content} of all files."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def images():
    """(image, labels) of enough images for statistics: about 600 shapes."""
    return [draw(index) for index in range(150)]


@pytest.fixture(scope="module")
def labels(images):
    return np.concatenate([labels for _, labels in images])


# Reproducible


def test_two_sets_of_one_seed_are_identical(tmp_path):
    for name in ("one", "two"):
        assert shapes.make_shapes(tmp_path / name, seed=3, train=10, val=5)
    one = file_hashes(tmp_path / "one")
    assert len(one) == 2 * 15 + 2
    assert one == file_hashes(tmp_path / "two")


def test_an_image_does_not_depend_on_the_number_of_images(tmp_path):
    shapes.make_shapes(tmp_path / "few", train=3, val=1)
    shapes.make_shapes(tmp_path / "more", train=6, val=2)
    few, more = (file_hashes(tmp_path / name) for name in ("few", "more"))
    names = [name for name in few if name.endswith(".jpg")]
    assert len(names) == 4
    assert all(few[name] == more[name] for name in names)


def test_images_differ_between_seeds_lists_and_indices():
    drawn = [draw(0), draw(1), draw(0, list_id=1), draw(0, seed=1)]
    assert len({hashlib.sha256(image.tobytes()).hexdigest() for image, _ in drawn}) == 4


def test_the_labels_are_those_of_the_published_metrics(images):
    text = "".join(f"{row.round(4).tolist()}\n" for _, labels in images[:20] for row in labels)
    assert hashlib.sha256(text.encode()).hexdigest() == LABELS_HASH


def test_files_contain_the_drawn_images_and_labels(tmp_path):
    shapes.make_shapes(tmp_path / "set", train=8, val=3)
    for list_id, (name, count) in enumerate((("train", 8), ("val", 3))):
        index = load_index(tmp_path / "set" / f"{name}.txt", len(CLASS_NAMES))
        assert len(index.images) == count
        assert index.missing_labels == 0
        for position, (path, read) in enumerate(zip(index.images, index.labels, strict=True)):
            image, labels = draw(position, list_id)
            assert read == pytest.approx(labels, abs=1e-6)
            # JPEG is lossy.
            assert np.abs(cv2.imread(path).astype(int) - image).mean() < 6


# Content


def test_boxes_enclose_the_visible_pixels(monkeypatch):
    """Paint shape i with gray level i on black, without clutter: the visible pixels are those of level i."""
    levels = itertools.count(1)
    painted = []

    def paint(rng, image, mask):
        painted.append(next(levels))
        image[mask >= 128] = painted[-1]

    monkeypatch.setattr(shapes, "_paint", paint)
    monkeypatch.setattr(shapes, "_clutter", lambda rng: np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8))
    monkeypatch.setattr(shapes, "_background", lambda rng: np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3)))
    monkeypatch.setattr(shapes, "_photograph", lambda rng, image: image)
    for index in range(40):
        painted.clear()
        image, labels = draw(index)
        if len(labels):
            for level, box in zip(painted[-len(labels) :], corners(labels), strict=True):
                rows, columns = np.nonzero(image[..., 0] == level)
                assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == tuple(box)


def test_boxes_are_in_the_image_and_large_enough(labels):
    boxes = corners(labels)
    assert boxes.min() >= 0
    assert boxes.max() <= IMAGE_SIZE
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= shapes.MIN_SIDE


def test_classes_are_balanced(labels):
    counts = np.bincount(labels[:, 0].astype(int), minlength=len(CLASS_NAMES))
    assert counts.min() > 0.7 * counts.mean()
    assert counts.max() < 1.3 * counts.mean()


def test_some_images_are_empty_and_some_crowded(images):
    counts = Counter(len(labels) for _, labels in images)
    assert 0.02 < counts[0] / len(images) < 0.12
    assert set(counts) == set(range(shapes.MAX_SHAPES + 1))


def test_shapes_are_small_to_large(labels):
    sizes = labels[:, 3:].max(1) * IMAGE_SIZE
    assert np.percentile(sizes, 10) < 20
    assert 40 < np.percentile(sizes, 50) < 75
    assert np.percentile(sizes, 90) > 140


def test_colors_and_sizes_do_not_tell_the_class(images, labels):
    """Nearest neighbors by colors and box size guess the class hardly better than chance."""
    features = []
    for image, rows in images:
        for x1, y1, x2, y2 in corners(rows):
            crop = image[y1:y2, x1:x2].reshape(-1, 3)
            width, height = x2 - x1, y2 - y1
            features.append([*crop.mean(0), *crop.std(0), np.log(width), np.log(height), np.log(width / height)])
    features = np.array(features)
    features = (features - features.mean(0)) / features.std(0)
    distances = np.square(features[:, None] - features[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    class_ids = labels[:, 0].astype(int)
    votes = class_ids[np.argsort(distances, 1)[:, :9]]
    guesses = [np.bincount(vote).argmax() for vote in votes]
    assert np.mean(guesses == class_ids) < 1.6 / len(CLASS_NAMES)


# Complete or absent


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    write = shapes._write_image

    def interrupted(path, seed):
        if seed[-1] == 5:
            raise KeyboardInterrupt
        write(path, seed)

    monkeypatch.setattr(shapes, "_write_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shapes.make_shapes(tmp_path / "set", train=20, val=5)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_set(tmp_path, run_script):
    script = [sys.executable, str(REPO / "tools" / "make_shapes.py"), "--output", str(tmp_path / "set")]
    process = subprocess.Popen([*script, "--train", "100000"], stderr=subprocess.DEVNULL)
    try:
        while not list(tmp_path.glob(".set-*/train/*.jpg")):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "set").exists()
    assert run_script("tools/make_shapes.py", "--output", tmp_path / "set", "--train", 2, "--val", 1).returncode == 0
    assert len(load_index(tmp_path / "set" / "train.txt", len(CLASS_NAMES)).images) == 2


def test_two_processes_at_once_make_one_complete_set(tmp_path, monkeypatch):
    both_done = threading.Barrier(2, timeout=60)
    rename = Path.rename

    def rename_together(source, target):
        both_done.wait()
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", rename_together)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(shapes.make_shapes(tmp_path / "set", train=4, val=2)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert len(file_hashes(tmp_path / "set")) == 2 * 6 + 2


# Drawn on first use


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The data folder of a project, whose synthetic set is small and not drawn yet."""
    folder = tmp_path / "project" / "data"
    folder.mkdir(parents=True)
    for name in ("shapes.data", "shapes.names"):
        (folder / name).write_text((REPO / "data" / name).read_text())
    make = shapes.make_shapes
    monkeypatch.setattr(shapes, "FOLDER", folder / "shapes")
    monkeypatch.setattr(shapes, "make_shapes", lambda folder: make(folder, train=3, val=2))
    return folder


@pytest.mark.parametrize("cwd", [".", "project", "project/data"])
def test_opening_a_list_draws_the_set_once(project, tmp_path, monkeypatch, cwd):
    monkeypatch.chdir(tmp_path / cwd)
    config = read_config(project / "shapes.data")
    assert len(open_list(config, "train")) == 3
    before = {path: path.stat().st_mtime_ns for path in (project / "shapes").rglob("*.*")}
    assert len(open_list(read_config(project / "shapes.data"), "val")) == 2
    assert before.items() <= {path: path.stat().st_mtime_ns for path in project.rglob("*")}.items()


@pytest.mark.parametrize("name", ["other/train.txt", "shapes/other.txt", "../shapes/train.txt"])
def test_other_missing_lists_are_not_drawn(project, name):
    with pytest.raises(InputError, match="found nothing"):
        load_index(project / name)
    assert not (project / "shapes").exists()


@pytest.mark.parametrize("missing", ["train.txt", "val.txt"])
def test_a_folder_without_a_list_is_reported(project, missing):
    (project / "shapes").mkdir()
    for name in {"train.txt", "val.txt"} - {missing}:
        (project / "shapes" / name).write_text("")
    with pytest.raises(InputError, match=f"{missing}.*remove the folder"):
        load_index(project / "shapes" / missing)


def test_the_anchors_of_the_data_file_fit():
    config = read_config(REPO / "data" / "shapes.data")
    assert config.class_names == CLASS_NAMES
    assert config.size == (IMAGE_SIZE, IMAGE_SIZE)
    index = open_list(config, "train")
    assert len(index) == shapes.COUNTS["train"]
    assert len(open_list(config, "val")) == shapes.COUNTS["val"]
    assert index.labels[7] == pytest.approx(draw(7)[1], abs=1e-6)  # else the folder is outdated: remove it

    anchors = np.array(config.anchors).reshape(-1, 2)
    sizes = box_sizes(index.labels, config.width, config.height)
    assert fit(sizes, anchors).average_iou == pytest.approx(fit(sizes, cluster(sizes, 6, 0)).average_iou, abs=2e-3)
    assert anchors == pytest.approx(cluster(sizes, 6, 0), rel=0.05)


# tools/make_shapes.py


def test_the_script_reports_what_it_wrote(tmp_path, run_script):
    done = run_script("tools/make_shapes.py", "--output", "set", "--seed", 5, "--train", 3, "--val", 2, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("wrote 3 images")
    assert "seed 5" in done.stderr
    assert "\r" not in done.stderr
    assert len(load_index(tmp_path / "set" / "val.txt", len(CLASS_NAMES)).images) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "there"], "error: there: exists already"),
        (["--output", "file"], "error: file: exists already"),
        (["--output", "file/set"], "error: file/set: cannot write there: "),
        (["--output", "set", "--train", "0"], "'0'"),
        (["--output", "set", "--val", "many"], "'many'"),
        (["--output", "set", "--seed", "-1"], "'-1'"),
    ],
)
def test_bad_options_of_the_script(tmp_path, run_script, arguments, message):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    done = run_script("tools/make_shapes.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
