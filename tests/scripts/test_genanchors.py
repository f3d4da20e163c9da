"""genanchors.py as a user runs it, and the files it writes."""

import re
import shutil

import cv2
import numpy as np
import pytest

from utils.anchors import fit, format_anchors, replace_anchors
from utils.config import read_config
from utils.errors import InputError

# The original's file: `w,h` pairs with two decimals on one line, the average IoU with six on the next.
FORM = re.compile(r"\d+\.\d\d,\d+\.\d\d(, \d+\.\d\d,\d+\.\d\d)*\n[01]\.\d{6}\n")

DATA = """\
[name]
model_name=made  # of noise

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
anchors=10,10,20,20,  30,30,40,40   # not yet its own
train=train.txt
val=None
names=made.names
"""
ANCHORS = [[1.5, 2.25], [30, 40.125]]


def read_anchor_file(path):
    """([k, 2] anchors, average IoU), after a check of the form."""
    text = path.read_text(encoding="utf-8")
    assert FORM.fullmatch(text)
    pairs, average_iou = text.splitlines()
    return np.array([pair.split(",") for pair in pairs.split(", ")], dtype=float), float(average_iou)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """A small data set: 12 images with 10 boxes each, one without a box; and the boxes' sizes as fractions."""
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
    return folder, sizes.reshape(-1, 2).astype(np.float32).astype(np.float64)  # as labels are read


@pytest.fixture
def made(made_once, tmp_path):
    """A copy of that data set, the test's own."""
    folder, sizes = made_once
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path, sizes


def test_writes_the_originals_file_where_it_is_run(made, run_script):
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


def test_same_seed_same_file_and_any_source_of_images(made, run_script):
    folder, _ = made
    texts = []
    for source in ("train.txt", "photos", "photos/*.png"):
        options = ("--traintxt", source, "--seed", 5, "--num_clusters", 5, "--output_dir", folder / "new" / "folder")
        done = run_script("genanchors.py", *options, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert "seed 5, " in done.stdout
        texts.append((folder / "new/folder/anchors5.txt").read_bytes())
    # The order of the boxes plays no part, and that of the images differs between these.
    assert texts[0] == texts[1] == texts[2]


def test_zero_clusters_are_one_to_ten(made, run_script):
    folder, _ = made
    done = run_script("genanchors.py", "--num_clusters", 0, "--input_width", 640, "--input_height", 160, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = [read_anchor_file(folder / f"anchors{number}.txt") for number in range(1, 11)]
    assert [len(anchors) for anchors, _ in found] == list(range(1, 11))
    ious = [average_iou for _, average_iou in found]
    assert ious == sorted(ious)
    assert not (folder / "anchors0.txt").exists()
    wide, high = found[0][0][0]
    assert 2 < wide / high < 8  # sizes are alike along both axes, the input four times as wide as high


def test_data_file_gives_list_and_size_and_gets_the_anchors(made, run_script):
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
    assert f"wrote the anchors into {data}; as it was before: {data}.bak\n" in done.stdout
    assert (folder / "made.data.bak").read_text(encoding="utf-8") == DATA
    old, new = DATA.splitlines(), data.read_text(encoding="utf-8").splitlines()
    assert [line for line in new if line not in old] == [f"anchors={format_anchors(anchors)} # not yet its own"]
    assert [line for line in old if line not in new] == ["anchors=10,10,20,20,  30,30,40,40   # not yet its own"]
    assert np.array(read_config(data).anchors).reshape(-1, 2).tolist() == anchors.tolist()


def test_command_line_goes_before_the_data_file(made, run_script):
    folder, _ = made
    (folder / "few.txt").write_text("photos/3.png\n", encoding="utf-8")
    options = ("--traintxt", "few.txt", "--input_width", 64, "--num_clusters", 3)
    done = run_script("genanchors.py", "--data", "made.data", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "few.txt: images 1, boxes 10, at 64x256 pixels" in done.stdout
    assert (folder / "made.data").read_text(encoding="utf-8") == DATA
    assert len(read_anchor_file(folder / "anchors3.txt")[0]) == 3


def test_plot_is_a_picture_of_boxes_and_anchors(made, run_script):
    folder, _ = made
    done = run_script("genanchors.py", "--data", "made.data", "--plot", "--num_clusters", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "wrote anchors1.png" in done.stdout
    picture = cv2.imread(str(folder / "anchors1.png"))
    assert min(picture.shape[:2]) >= 600
    blue, _, red = picture.reshape(-1, 3).astype(int).T
    assert (red - blue > 100).sum() > 100  # the anchor, its square, the legend
    assert (blue - red > 50).sum() > 1000  # the density of the boxes


def test_real_boxes(shared, tmp_path, run_script):
    """The original's result on the same boxes is 0.6998."""
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
        ({}, ["--traintxt", "no.txt"], "no.txt: expected a list of images"),
        ({"empty.txt": "# nothing\n\n"}, ["--traintxt", "empty.txt"], "empty.txt: "),
        ({"bad.txt": "photos/77.png\n"}, ["--traintxt", "bad.txt"], "photos/77.png"),
        ({"one.txt": "photos/12.png\n"}, ["--traintxt", "one.txt"], "one.txt: expected boxes, got none"),
        (
            {"photos/0.txt": "0 .5 .5 .1 .1\n" * 9, "one.txt": "photos/0.png\n"},
            ["--traintxt", "one.txt"],
            "one.txt: expected boxes of at least 6 different sizes for 6 clusters, got 1 (boxes in all: 9)",
        ),
        (
            {"photos/0.txt": "0 .5 .5 .1 .1\n0 .5 .5 .2 .1\n", "one.txt": "photos/0.png\n"},
            ["--traintxt", "one.txt", "--num_clusters", "0"],
            "one.txt: expected boxes of at least 3 different sizes for 3 clusters, got 2 (boxes in all: 2)",
        ),
        ({"photos/0.txt": "0 .5 .5 .1\n"}, [], "0.txt:1: expected \"class cx cy w h\", got 4 values: '0 .5 .5 .1'"),
        ({"photos/0.txt": "0 .5 .5 .1 .1\n0 .5 .5 0 .1\n"}, [], "0.txt:2: expected w and h above 0"),
        ({"photos/0.txt": "0 .5 .5 nan .1\n"}, [], "0.txt:1: expected finite numbers"),
        ({"photos/0.txt": "2 .5 .5 .1 .1\n"}, ["--data", "made.data"], "0.txt:1: expected class 0…1, got 2"),
        ({}, ["--data", "no.data"], "no.data: cannot read: "),
        ({"made.data": edited(DATA, ("width=320", "width=300"))}, ["--data", "made.data"], "made.data:14: width: "),
        ({"made.data": edited(DATA, ("=train.txt", "=None"))}, ["--data", "made.data"], "expected train=LIST"),
        ({"made.data": edited(DATA, ("=train.txt", "=no.txt"))}, ["--data", "made.data"], "no.txt: expected a list"),
        ({}, ["--write"], "--write: expected --data as well"),
        ({}, ["--data", "made.data", "--write", "--num_clusters", "6"], "expected --num_clusters 4, got 6"),
        ({}, ["--data", "made.data", "--write", "--input_width", "352"], "expected 320x256 pixels, as in made.data"),
        ({}, ["--output_dir", "made.names"], "made.names/anchors6.txt: cannot write there"),
        ({}, ["--num_clusters", "-1"], "expected a whole number of 0 or more, got '-1'"),
        ({}, ["--num_clusters", "six"], "expected a whole number, got 'six'"),
        ({}, ["--input_width", "0"], "expected a whole number of 1 or more, got '0'"),
        ({}, ["--input_height", "1000000000"], "below 1e+07 px"),
        ({}, ["--seed", "-3"], "expected a whole number of 0 or more, got '-3'"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(made, run_script, files, options, message):
    folder, _ = made
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    before = (folder / "made.data").read_bytes()
    done = run_script("genanchors.py", *options, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("anchors*"))
    assert (folder / "made.data").read_bytes() == before
    assert not (folder / "made.data.bak").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("anchors=1,2, 3,4\n", "anchors=1.50,2.25, 30.00,40.12\n"),
        ("anchors=1,2, 3,4", "anchors=1.50,2.25, 30.00,40.12"),
        ("a=1\r\nanchors=1,2, 3,4\r\nb=2\r\n", "a=1\r\nanchors=1.50,2.25, 30.00,40.12\r\nb=2\r\n"),
        ("a=1\ranchors=1,2\rb=2", "a=1\ranchors=1.50,2.25, 30.00,40.12\rb=2"),
        ("\ufeffanchors=1\n", "\ufeffanchors=1.50,2.25, 30.00,40.12\n"),
        ("  anchors\t= 1,2 \t\nx=1", "  anchors\t= 1.50,2.25, 30.00,40.12 \t\nx=1"),
        ("#anchors=1\n # anchors=2\nanchors=3\n", "#anchors=1\n # anchors=2\nanchors=1.50,2.25, 30.00,40.12\n"),
        ("anchors=1#c # d\n", "anchors=1.50,2.25, 30.00,40.12 #c # d\n"),
        ("anchors=1   # c\n", "anchors=1.50,2.25, 30.00,40.12 # c\n"),
        (f"anchors={'1,1, ' * 8}1,1   # c\n", f"anchors=1.50,2.25, 30.00,40.12{' ' * 24}# c\n"),
        ("anchors=\nanchor_num=1\n", "anchors=1.50,2.25, 30.00,40.12\nanchor_num=1\n"),
        ("my_anchors=1\nanchors=2\n# größe\n", "my_anchors=1\nanchors=1.50,2.25, 30.00,40.12\n# größe\n"),
    ],
)
def test_only_the_value_is_replaced(tmp_path, before, after):
    path = tmp_path / "x.data"
    path.write_bytes(before.encode())
    backup = replace_anchors(path, ANCHORS)
    assert path.read_bytes() == after.encode()
    assert backup == tmp_path / "x.data.bak"
    assert backup.read_bytes() == before.encode()


def test_a_comment_stays_in_its_column(tmp_path):
    path = tmp_path / "x.data"
    path.write_text(f"width=352{' ' * 40}# one\nanchors=1,2, 3,4{' ' * 33}# two\n", encoding="utf-8")
    replace_anchors(path, ANCHORS)
    one, two = path.read_text(encoding="utf-8").splitlines()
    assert one.index("#") == two.index("#")


def test_backups_are_never_overwritten(tmp_path):
    path = tmp_path / "x.data"
    path.write_text("anchors=1,2\n", encoding="utf-8")
    names = [replace_anchors(path, [[number, number]]).name for number in (1, 2, 3)]
    assert names == ["x.data.bak", "x.data.bak-2", "x.data.bak-3"]
    kept = [(tmp_path / name).read_text(encoding="utf-8") for name in names]
    assert kept == ["anchors=1,2\n", "anchors=1.00,1.00\n", "anchors=2.00,2.00\n"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    path = tmp_path / "real/x.data"
    path.write_text("anchors=1,2\n", encoding="utf-8")
    (tmp_path / "link.data").symlink_to(path)
    assert replace_anchors(tmp_path / "link.data", [[3, 4]]).name == "x.data.bak"
    assert (tmp_path / "link.data").is_symlink()
    assert path.read_text(encoding="utf-8") == "anchors=3.00,4.00\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"width=352\n# anchors=1,2\n", "x.data: expected an entry 'anchors=…', found none"),
        (b"anchors=1,2 # gr\xf6\xdfe\n", "x.data: expected UTF-8 text, got byte 0xf6"),
        (None, "x.data: cannot read: "),
    ],
)
def test_data_files_that_cannot_take_anchors(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.data").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        replace_anchors(tmp_path / "x.data", ANCHORS)
    assert not (tmp_path / "x.data.bak").exists()


def test_anchors_of_the_projects_own_data_file_survive(repo, tmp_path):
    shutil.copytree(repo / "data", tmp_path / "data", ignore=shutil.ignore_patterns("shapes"))
    path = tmp_path / "data/coco.data"
    before = path.read_bytes()
    replace_anchors(path, np.array(read_config(path).anchors).reshape(-1, 2))
    assert path.read_bytes() == before
