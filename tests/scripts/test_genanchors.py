"""genanchors.py as a user runs it."""

import re
import shutil

import cv2
import numpy as np
import pytest

from utils.anchors import fit, format_anchors
from utils.config import read_config

pytestmark = pytest.mark.slow

# The original's file format: `w,h` pairs with two decimals on line 1, the average IoU with six decimals on line 2.
FORM = re.compile(r"\d+\.\d\d,\d+\.\d\d(, \d+\.\d\d,\d+\.\d\d)*\n[01]\.\d{6}\n")

DATA = """\
[name]
model_name=made  # random boxes

[train]
epochs=10
steps=
batch_size=4
subdivisions=1
learning_rate=0.001

[model]
pre_weights=None
classes=2
width=320
height=256
anchor_num=2
# anchors=1,2, 3,4, 5,6, 7,8
anchors=10,10,20,20,  30,30,40,40   # not found for this data set
train=train.txt
val=None
names=made.names
"""


def read_anchor_file(path):
    """Check the format and return ([k, 2] anchors, average IoU)."""
    text = path.read_text(encoding="utf-8")
    assert FORM.fullmatch(text)
    pairs, average_iou = text.splitlines()
    return np.array([pair.split(",") for pair in pairs.split(", ")], dtype=float), float(average_iou)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A data set of 12 images with 10 boxes each and one image without boxes, and the box sizes as fractions."""
    folder = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    sizes = np.round(np.exp(random.normal(-2.2, 0.7, (12, 10, 2))).clip(0.01, 0.9), 6)
    for number, boxes in enumerate([*sizes, []]):
        cv2.imwrite(str(folder / f"photos/{number}.png"), np.zeros((4, 4, 3), np.uint8))
        lines = [f"{index % 2} 0.5 0.5 {width:.6f} {height:.6f}\n" for index, (width, height) in enumerate(boxes)]
        (folder / f"photos/{number}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "train.txt").write_text("".join(f"photos/{number}.png\n" for number in range(13)), encoding="utf-8")
    (folder / "made.names").write_text("one\ntwo\n", encoding="utf-8")
    (folder / "made.data").write_text(DATA, encoding="utf-8")
    return folder, sizes.reshape(-1, 2).astype(np.float32).astype(np.float64)  # labels are float32


@pytest.fixture
def made(made_once, tmp_path):
    """A copy of the data set for one test."""
    folder, sizes = made_once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, sizes


def test_writes_the_originals_file_into_the_working_directory(made, run_script):
    folder, sizes = made
    done = run_script("genanchors.py", "--traintxt", "./train.txt", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    anchors, average_iou = read_anchor_file(folder / "anchors6.txt")
    fitted = fit(sizes * 352, anchors)
    assert len(anchors) == 6
    assert anchors.tolist() == sorted(anchors.tolist())
    assert average_iou == round(fitted.average_iou, 6)
    assert "images 13, boxes 120, at 352x352 pixels\nseed 0, best of 10 starts\n" in done.stdout
    assert f"clusters 6: average IoU {average_iou:.6f}\n" in done.stdout
    assert f"best possible recall {fitted.recall:.2%} " in done.stdout
    boxes = [
        int(line.split()[2]) for line in done.stdout.splitlines() if re.fullmatch(r" *\d+\.\d\d +\d+\.\d\d +\d+", line)
    ]
    assert tuple(boxes) == fitted.boxes
    assert done.stdout.endswith("\nwrote anchors6.txt\n")


def test_same_seed_gives_the_same_file_for_list_folder_and_glob(made, run_script):
    folder, _ = made
    texts = []
    for source in ("train.txt", "photos", "photos/*.png"):
        options = ("--traintxt", source, "--seed", 5, "--num_clusters", 5, "--output_dir", folder / "new" / "folder")
        done = run_script("genanchors.py", *options, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "seed 5, " in done.stdout
        texts.append((folder / "new/folder/anchors5.txt").read_bytes())
    # The order of the images differs between these sources and must not matter.
    assert texts[0] == texts[1] == texts[2]


def test_zero_clusters_writes_files_for_one_to_ten(made, run_script):
    folder, _ = made
    done = run_script("genanchors.py", "--num_clusters", 0, "--input_width", 640, "--input_height", 160, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = [read_anchor_file(folder / f"anchors{number}.txt") for number in range(1, 11)]
    assert [len(anchors) for anchors, _ in found] == list(range(1, 11))
    ious = [average_iou for _, average_iou in found]
    assert ious == sorted(ious)
    assert not (folder / "anchors0.txt").exists()
    wide, high = found[0][0][0]
    assert 2 < wide / high < 8  # both sides have the same distribution; the input is four times as wide as high


def test_data_file_gives_list_and_size_and_receives_the_anchors(made, run_script):
    folder, sizes = made
    data = folder / "made.data"
    done = run_script("genanchors.py", "--data", data, "--write", "--output_dir", folder)
    assert done.returncode == 0, done.stderr
    anchors, _ = read_anchor_file(folder / "anchors4.txt")
    pixels = sizes * (320, 256)
    before, after = fit(pixels, [[10, 10], [20, 20], [30, 30], [40, 40]]), fit(pixels, anchors)
    assert "at 320x256 pixels" in done.stdout
    assert f"anchors in {data} now: average IoU {before.average_iou:.6f}" in done.stdout
    assert f"best possible recall {before.recall:.2%}" in done.stdout
    assert after.average_iou > before.average_iou
    assert re.search(rf"{re.escape(str(data))}; .*{re.escape(str(data))}\.bak\n", done.stdout)
    assert done.stdout.splitlines()[-1].endswith(f"--data {data}.bak")  # for weights that were trained before
    assert (folder / "made.data.bak").read_text(encoding="utf-8") == DATA
    old, new = DATA.splitlines(), data.read_text(encoding="utf-8").splitlines()
    assert [line for line in new if line not in old] == [
        f"anchors={format_anchors(anchors)} # not found for this data set"
    ]
    assert [line for line in old if line not in new] == [
        "anchors=10,10,20,20,  30,30,40,40   # not found for this data set"
    ]
    assert np.array(read_config(data).anchors).reshape(-1, 2).tolist() == anchors.tolist()


def test_command_line_wins_over_the_data_file(made, run_script):
    folder, _ = made
    (folder / "few.txt").write_text("photos/3.png\n", encoding="utf-8")
    options = ("--traintxt", "few.txt", "--input_width", 64, "--num_clusters", 3)
    done = run_script("genanchors.py", "--data", "made.data", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "few.txt: images 1, boxes 10, at 64x256 pixels" in done.stdout
    assert (folder / "made.data").read_text(encoding="utf-8") == DATA
    assert len(read_anchor_file(folder / "anchors3.txt")[0]) == 3


def test_plot_shows_boxes_and_anchors(made, run_script):
    folder, _ = made
    done = run_script("genanchors.py", "--data", "made.data", "--plot", "--num_clusters", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "wrote anchors1.png" in done.stdout
    plot = cv2.imread(str(folder / "anchors1.png"))
    assert min(plot.shape[:2]) >= 600
    blue, _, red = plot.reshape(-1, 3).astype(int).T
    assert (red - blue > 100).sum() > 100  # the anchor, its rectangle and the legend
    assert (blue - red > 50).sum() > 1000  # the density of the boxes


def test_real_boxes(shared, tmp_path, run_script):
    """The average IoU of the original's anchors on the same boxes is 0.6998."""
    root = shared / "helmet"
    images = (root / "train.txt").read_text(encoding="utf-8").split()
    (tmp_path / "train.txt").write_text("".join(f"{root / image}\n" for image in images), encoding="utf-8")
    done = run_script("genanchors.py", "--traintxt", "./train.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_anchor_file(tmp_path / "anchors6.txt")[1] >= 0.6998
    assert "images 1868, boxes 8079" in done.stdout


def edited(text, *changes):
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, ["--traintxt", "no.txt"], r"no\.txt: .*list"),
        ({"empty.txt": "# nothing\n\n"}, ["--traintxt", "empty.txt"], r"empty\.txt: "),
        ({"bad.txt": "photos/77.png\n"}, ["--traintxt", "bad.txt"], r"photos/77\.png"),
        ({"one.txt": "photos/12.png\n"}, ["--traintxt", "one.txt"], r"one\.txt: .*boxes, got none"),
        (
            {"photos/0.txt": "0 .5 .5 .1 .1\n" * 9, "one.txt": "photos/0.png\n"},
            ["--traintxt", "one.txt"],
            r"one\.txt: .* 6 clusters, got 1 \(boxes in all: 9\)",
        ),
        (
            {"photos/0.txt": "0 .5 .5 .1 .1\n0 .5 .5 .2 .1\n", "one.txt": "photos/0.png\n"},
            ["--traintxt", "one.txt", "--num_clusters", "0"],
            r"one\.txt: .* 3 clusters, got 2 \(boxes in all: 2\)",
        ),
        ({"photos/0.txt": "0 .5 .5 .1\n"}, [], r"0\.txt:1: .*'0 \.5 \.5 \.1'"),
        ({"photos/0.txt": "0 .5 .5 .1 .1\n0 .5 .5 0 .1\n"}, [], r"0\.txt:2: .* w and h "),
        ({"photos/0.txt": "0 .5 .5 nan .1\n"}, [], r"0\.txt:1: .*finite"),
        ({"photos/0.txt": "2 .5 .5 .1 .1\n"}, ["--data", "made.data"], r"0\.txt:1: .*class.* 0…1, got 2"),
        ({}, ["--data", "no.data"], r"no\.data: cannot read"),
        ({"made.data": edited(DATA, ("width=320", "width=300"))}, ["--data", "made.data"], r"made\.data:14: width: "),
        (
            {"made.data": edited(DATA, ("=train.txt", "=None"))},
            ["--data", "made.data"],
            r"made\.data: .*train=.*--traintxt",
        ),
        ({"made.data": edited(DATA, ("=train.txt", "=no.txt"))}, ["--data", "made.data"], r"no\.txt: .*list"),
        ({}, ["--write"], r"--write: .*--data"),
        ({}, ["--data", "made.data", "--write", "--num_clusters", "6"], r"--write: .*--num_clusters 4.*, got 6"),
        (
            {},
            ["--data", "made.data", "--write", "--input_width", "352"],
            r"--write: .*320x256.*made\.data, got 352x256",
        ),
        ({}, ["--output_dir", "made.names"], r"made\.names/anchors6\.txt: cannot write"),
        ({}, ["--num_clusters", "-1"], r"--num_clusters: .*, got '-1'"),
        ({}, ["--num_clusters", "six"], r"--num_clusters: .*number from 0 to 4,294,967,295, got 'six'"),
        ({}, ["--input_width", "0"], r"--input_width: .*, got '0'"),
        ({}, ["--input_height", "1000000000"], r"--input_height: .*, got '1000000000'"),
        ({}, ["--seed", "-3"], r"--seed: .*, got '-3'"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(made, run_script, files, options, message):
    folder, _ = made
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = (folder / "made.data").read_bytes()
    done = run_script("genanchors.py", *options, cwd=folder)
    assert done.returncode == 2
    assert re.search(message, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("anchors*"))
    assert (folder / "made.data").read_bytes() == before
    assert not (folder / "made.data.bak").exists()
