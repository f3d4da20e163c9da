"""The drawn data set: the same for everybody, boxes where the shapes are, and only the outline tells the class."""

import hashlib
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
from utils.dataset import shape_images as shape_pictures
from utils.dataset import shapes
from utils.dataset.index import load_index
from utils.dataset.shape_images import CLASS_NAMES, PICTURE_SIZE, SHAPE_SIZE, draw_picture
from utils.errors import InputError

REPO = Path(__file__).resolve().parents[2]
LABELS_OF_20 = "2d1018de88badeabce0cda295417706499a863ce0dbe82c2bdb1fc56b030c9c1"  # SHA-256


def draw(number, split=0, seed=0):
    return draw_picture(np.random.default_rng((seed, split, number)))


def corners(labels):
    """[n, 4] whole pixels x1, y1, x2, y2 of labels [n, 5]."""
    centres, halves = labels[:, 1:3], labels[:, 3:] / 2
    return (np.concatenate((centres - halves, centres + halves), 1) * PICTURE_SIZE).round().astype(int)


def files_of(folder):
    """{relative path: hash of the content} of all files."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def pictures():
    """Enough for statistics: about 630 shapes."""
    return [draw(number) for number in range(150)]


@pytest.fixture(scope="module")
def labels(pictures):
    return np.concatenate([picture.labels for picture in pictures])


# The same for everybody


def test_two_data_sets_of_one_seed_are_equal_byte_by_byte(tmp_path):
    for name in ("one", "two"):
        assert shapes.make_shapes(tmp_path / name, seed=3, train=10, val=5)
    one = files_of(tmp_path / "one")
    assert len(one) == 2 * 15 + 2
    assert one == files_of(tmp_path / "two")


def test_a_picture_does_not_depend_on_the_number_of_pictures(tmp_path):
    shapes.make_shapes(tmp_path / "few", train=3, val=1)
    shapes.make_shapes(tmp_path / "more", train=6, val=2)
    few, more = (files_of(tmp_path / name) for name in ("few", "more"))
    pictures = [name for name in few if name.endswith(".jpg")]
    assert len(pictures) == 4
    assert all(few[name] == more[name] for name in pictures)


def test_pictures_differ_between_seeds_splits_and_numbers(tmp_path):
    images = [draw(0), draw(1), draw(0, split=1), draw(0, seed=1)]
    assert len({hashlib.sha256(picture.image.tobytes()).hexdigest() for picture in images}) == 4


def test_the_shapes_are_those_that_published_figures_were_measured_on():
    text = "".join(f"{box.round(4).tolist()}\n" for number in range(20) for box in draw(number).labels)
    assert hashlib.sha256(text.encode()).hexdigest() == LABELS_OF_20


def test_files_are_in_darknet_format_and_hold_the_pictures(tmp_path):
    shapes.make_shapes(tmp_path / "set", train=8, val=3)
    for number, (split, count) in enumerate((("train", 8), ("val", 3))):
        index = load_index(tmp_path / "set" / f"{split}.txt", len(CLASS_NAMES))
        assert len(index.images) == count
        assert index.missing_labels == 0
        for position, (path, read) in enumerate(zip(index.images, index.labels, strict=True)):
            picture = draw(position, split=number)
            assert read == pytest.approx(picture.labels, abs=1e-6)
            # JPEG is not lossless, but near.
            difference = cv2.imread(str(path)).astype(int) - picture.image
            assert np.abs(difference).mean() < 6


# Boxes where the shapes are


def test_boxes_are_tight_around_the_visible_pixels(pictures):
    for picture in pictures:
        for number, (x1, y1, x2, y2) in enumerate(corners(picture.labels)):
            rows, columns = np.nonzero(picture.owners == number)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)


def test_boxes_are_tight_around_the_painted_pixels(monkeypatch):
    """A shape alone on black: what is not black is the shape, whatever the generator thinks of it."""
    nothing = shape_pictures.Stencil(np.zeros((1, 1), np.float32), 0, 0)
    black = np.zeros((PICTURE_SIZE, PICTURE_SIZE, 3), np.float32)
    monkeypatch.setattr(shape_pictures, "MAX_SHAPES", 1)
    monkeypatch.setattr(shape_pictures, "_clutter", lambda rng: nothing)
    monkeypatch.setattr(shape_pictures, "_line", lambda rng, thickness: nothing)
    monkeypatch.setattr(shape_pictures, "_background", lambda rng: black.copy())
    monkeypatch.setattr(shape_pictures, "_develop", lambda rng, canvas: canvas)
    seen = 0
    for number in range(60):
        picture = draw(number)
        for box in corners(picture.labels):
            rows, columns = np.nonzero(picture.image.max(2) > 0)
            painted = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            # A border pixel that is hardly covered is painted a little but not in the box.
            assert np.abs(np.array(painted) - box).max() <= 1
            seen += 1
    assert seen > 40


def test_boxes_lie_inside_the_picture_and_can_be_seen(labels):
    boxes = corners(labels)
    assert boxes.min() >= 0
    assert boxes.max() <= PICTURE_SIZE
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= shape_pictures.MIN_SIDE


def test_most_of_every_shape_is_visible(pictures):
    """The box around the visible part is nowhere much smaller than the whole shape."""
    for picture in pictures:
        boxes = corners(picture.labels)
        longer = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
        assert (longer <= picture.sizes + 2).all()
        assert (longer >= 0.5 * picture.sizes - 2).all()


# What is in it


def test_classes_are_balanced(labels):
    counts = np.bincount(labels[:, 0].astype(int), minlength=len(CLASS_NAMES))
    assert counts.min() > 0.7 * counts.mean()
    assert counts.max() < 1.3 * counts.mean()


def test_some_pictures_are_empty_and_some_crowded(pictures):
    counts = Counter(len(picture.labels) for picture in pictures)
    assert 0.02 < counts[0] / len(pictures) < 0.12
    assert set(counts) == set(range(shape_pictures.MAX_SHAPES + 1))


def test_sizes_spread_from_small_to_large(pictures):
    sizes = np.concatenate([picture.sizes for picture in pictures])
    assert sizes.min() >= SHAPE_SIZE[0]
    assert sizes.max() <= SHAPE_SIZE[1]
    assert np.percentile(sizes, 10) < 20
    assert 40 < np.percentile(sizes, 50) < 75
    assert np.percentile(sizes, 90) > 140


def test_shapes_overlap(pictures):
    def overlaps(boxes):
        first, second = boxes[:, None], boxes[None]
        sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
        return np.count_nonzero((sides > 0).all(-1)) > len(boxes)

    assert np.mean([overlaps(corners(picture.labels)) for picture in pictures]) > 0.25


# Only the outline tells the class


def accuracy_of_neighbours(features, classes, neighbours=9):
    """Leave-one-out accuracy of the vote of the nearest neighbours, features scaled to equal spread."""
    features = (features - features.mean(0)) / features.std(0)
    distances = np.square(features[:, None] - features[None]).sum(2)
    np.fill_diagonal(distances, np.inf)
    votes = classes[np.argsort(distances, 1)[:, :neighbours]]
    return np.mean([np.bincount(vote).argmax() == kind for vote, kind in zip(votes, classes, strict=True)])


def accuracy_of_means(features, classes):
    """Accuracy of the nearest class mean; every second sample makes the means, the others are told."""
    features = (features - features.mean(0)) / features.std(0)
    means = np.array([features[::2][classes[::2] == kind].mean(0) for kind in range(len(CLASS_NAMES))])
    nearest = np.square(features[1::2, None] - means).sum(2).argmin(1)
    return np.mean(nearest == classes[1::2])


@pytest.mark.parametrize("accuracy", [accuracy_of_neighbours, accuracy_of_means])
def test_colour_and_size_do_not_tell_the_class(pictures, labels, accuracy):
    features = []
    for picture in pictures:
        for x1, y1, x2, y2 in corners(picture.labels):
            crop = picture.image[y1:y2, x1:x2].reshape(-1, 3)
            width, height = x2 - x1, y2 - y1
            features.append([*crop.mean(0), *crop.std(0), np.log(width), np.log(height), np.log(width / height)])
    chance = 1 / len(CLASS_NAMES)
    assert accuracy(np.array(features), labels[:, 0].astype(int)) < 1.6 * chance


def test_the_outline_tells_the_class(pictures, labels):
    features = []
    for picture in pictures:
        for number in range(len(picture.labels)):
            mask = (picture.owners == number).astype(np.uint8)
            contour = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
            hull, (_, sides, _) = cv2.contourArea(cv2.convexHull(contour)), cv2.minAreaRect(contour)
            area = cv2.contourArea(contour)
            features.append([mask.sum() / area, area / hull, hull / (sides[0] * sides[1])])
    assert accuracy_of_neighbours(np.array(features), labels[:, 0].astype(int)) > 0.65


# Never half there


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    write = shapes._write_picture

    def interrupted(path, seeds):
        if seeds[-1] == 5:
            raise KeyboardInterrupt
        write(path, seeds)

    monkeypatch.setattr(shapes, "_write_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shapes.make_shapes(tmp_path / "set", train=20, val=5)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_set_and_the_next_one_makes_it(tmp_path, run_script):
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


def test_of_two_makers_at_once_one_wins_and_the_set_is_whole(tmp_path, monkeypatch):
    both_done = threading.Barrier(2, timeout=60)
    rename = shapes._rename

    def rename_together(source, target):
        both_done.wait()
        return rename(source, target)

    monkeypatch.setattr(shapes, "_rename", rename_together)
    won = []

    def make():
        won.append(shapes.make_shapes(tmp_path / "set", train=4, val=2))

    makers = [threading.Thread(target=make) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert sorted(won) == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert len(files_of(tmp_path / "set")) == 2 * 6 + 2


# Made on first use


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's data folder whose shapes are few and not made yet."""
    folder = tmp_path / "project" / "data"
    folder.mkdir(parents=True)
    (folder / "shapes.names").write_text("\n".join(CLASS_NAMES))
    make = shapes.make_shapes
    monkeypatch.setattr(shapes, "FOLDER", folder / "shapes")
    monkeypatch.setattr(shapes, "make_shapes", lambda folder: make(folder, train=3, val=2))
    return folder


def write_data(path, train, val, names="shapes.names"):
    text = (REPO / "data" / "shapes.data").read_text()
    for key, value in (("train", train), ("val", val), ("names", names)):
        lines = [f"{key}={value}" if line.startswith(f"{key}=") else line for line in text.split("\n")]
        text = "\n".join(lines)
    path.write_text(text)
    return read_config(path)


@pytest.mark.parametrize("cwd", [".", "project", "project/data"])
def test_prepare_makes_the_shapes_beside_the_data_file(project, tmp_path, monkeypatch, cwd):
    monkeypatch.chdir(tmp_path / cwd)
    config = shapes.prepare(write_data(project / "shapes.data", "shapes/train.txt", "shapes/val.txt"))
    assert config.train.samefile(project / "shapes" / "train.txt")
    assert config.val.samefile(project / "shapes" / "val.txt")
    assert len(load_index(config.train, config.classes).images) == 3


def test_prepare_makes_them_for_other_data_files_too(project, tmp_path):
    names = project / "shapes.names"
    config = write_data(tmp_path / "mine.data", project / "shapes" / "train.txt", "None", names)
    assert shapes.prepare(config).train.exists()
    assert shapes.prepare(config).val is None


def test_prepare_leaves_what_is_there_alone(project):
    config = shapes.prepare(write_data(project / "shapes.data", "shapes/train.txt", "shapes/val.txt"))
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert shapes.prepare(read_config(project / "shapes.data")) == config
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


@pytest.mark.parametrize("train", ["other/train.txt", "shapes/other.txt", "../shapes/train.txt", "None"])
def test_prepare_makes_nothing_for_other_lists(project, train):
    config = write_data(project / "mine.data", train, "None")
    assert shapes.prepare(config) is config
    assert not (project / "shapes").exists()


@pytest.mark.parametrize(("kept", "missing"), [("train", "val.txt"), ("val", "train.txt"), (None, "train.txt and val")])
def test_a_folder_without_its_lists_is_named(project, kept, missing):
    (project / "shapes").mkdir()
    if kept:
        (project / "shapes" / f"{kept}.txt").write_text("")
    with pytest.raises(InputError, match=f"{missing}.* missing; remove this folder and it is drawn again"):
        shapes.prepare(write_data(project / "shapes.data", "shapes/train.txt", "shapes/val.txt"))


# data/shapes.data


def test_the_data_file_fits_the_data():
    config = shapes.prepare(read_config(REPO / "data" / "shapes.data"))
    assert config.class_names == CLASS_NAMES
    assert (config.width, config.height) == (PICTURE_SIZE, PICTURE_SIZE)
    index = load_index(config.train, config.classes)
    assert len(index.images) == shapes.COUNTS["train"]
    assert len(load_index(config.val, config.classes).images) == shapes.COUNTS["val"]
    # What lies there is what the present code draws.
    assert index.labels[7] == pytest.approx(draw(7).labels, abs=1e-6)

    anchors = np.array(config.anchors).reshape(-1, 2)
    sizes = box_sizes(index.labels, config.width, config.height)
    assert fit(sizes, anchors).average_iou == pytest.approx(fit(sizes, cluster(sizes, 6, 0)).average_iou, abs=2e-3)
    assert anchors == pytest.approx(cluster(sizes, 6, 0), rel=0.05)


# The script


def test_the_script_says_what_it_wrote(tmp_path, run_script):
    done = run_script("tools/make_shapes.py", "--output", "set", "--seed", 5, "--train", 3, "--val", 2, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "wrote 3 pictures for training and 2 for validation into set\n"
    assert "seed 5" in done.stderr
    assert "\r" not in done.stderr
    assert len(load_index(tmp_path / "set" / "val.txt", len(CLASS_NAMES)).images) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "there"], "error: there: exists already; remove it or choose another folder"),
        (["--output", "file"], "error: file: exists already"),
        (["--output", "file/set"], "error: file/set: cannot write there: "),
        (["--output", "set", "--train", "0"], "expected a whole number of 1 or more, got '0'"),
        (["--output", "set", "--val", "many"], "expected a whole number, got 'many'"),
        (["--output", "set", "--seed", "-1"], "expected a whole number of 0 or more, got '-1'"),
    ],
)
def test_the_script_names_what_is_wrong(tmp_path, run_script, arguments, message):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    done = run_script("tools/make_shapes.py", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
