"""The checker: what it counts, what it finds, what it draws."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.dataset_files import write_data, write_picture
from utils.check.checks import check_dataset
from utils.check.image_check import decode_images, find_look_alikes, make_thumbnail
from utils.check.report import ASPECT_EDGES, SIZE_EDGES, as_dictionary, as_text, histograms
from utils.config import read_config
from utils.dataset.images import read_image
from utils.dataset.statistics import WARNING

GOOD = "0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.25 0.5\n"  # at 96×64: 48×32 and 24×32 pixels


def write_set(folder, key, count, first_seed=0):
    """`count` different pictures with two boxes each, and their list."""
    names = [f"{key}/{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        write_picture(folder / name, seed=first_seed + number)
        (folder / name).with_suffix(".txt").write_text(GOOD, encoding="utf-8")
    (folder / f"{key}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


@pytest.fixture
def good(tmp_path):
    """The .data file of a small set in which nothing is an error."""
    write_set(tmp_path, "train", 12)
    write_set(tmp_path, "val", 4, first_seed=100)
    return write_data(tmp_path, train="train.txt", val="val.txt")


def check(data):
    return check_dataset(read_config(data), workers=1)


def found(report, kind):
    return [item for finding in report.findings if kind in finding.kind for item in finding.items]


def test_a_good_set(good):
    report = check(good)
    assert report.errors == 0
    facts = report.sets["train"]
    assert (len(facts.index), facts.index.missing_labels, facts.empty_labels) == (12, 0, 0)
    assert facts.class_boxes.tolist() == [12, 12]
    assert facts.class_images.tolist() == [12, 12]
    assert sorted(map(tuple, facts.sizes[:2].tolist())) == [(24, 32), (48, 32)]
    assert not facts.too_small.any()
    # 24×32 is within a factor of 2 of 16,30; 48×32 of 33,23.
    assert not facts.unmatched.any()
    assert {(finding.level, finding.kind) for finding in report.findings} == {
        (WARNING, "train: classes with fewer than 100 boxes"),
        (WARNING, "val: classes with fewer than 20 boxes"),
    }
    assert found(report, "train: classes with fewer") == ["cat 12, dog 12"]


def test_labels_missing_empty_malformed(good, tmp_path):
    (tmp_path / "train/0.txt").unlink()
    (tmp_path / "train/1.txt").write_text("", encoding="utf-8")
    (tmp_path / "train/2.txt").write_text(" \n\n", encoding="utf-8")
    (tmp_path / "train/3.txt").write_text("0 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    (tmp_path / "train/4.txt").write_text("oops\n", encoding="utf-8")
    report = check(good)
    facts = report.sets["train"]
    # A file that holds nothing but malformed lines is not an empty one.
    assert (facts.index.missing_labels, facts.empty_labels) == (1, 2)
    assert found(report, "train: images without label file") == [str(tmp_path / "train/0.png")]
    lines = found(report, "train: malformed labels")
    assert [line.split(": ")[0] for line in lines] == [
        *(f"{tmp_path / 'train/3.txt'}:{number}" for number in (1, 3)),
        f"{tmp_path / 'train/4.txt'}:1",
    ]
    assert report.errors == 3
    assert facts.class_boxes.tolist() == [8, 7]


def test_images_missing_cut_short_and_damaged(good, tmp_path):
    (tmp_path / "train/0.png").unlink()
    content = (tmp_path / "train/1.png").read_bytes()
    (tmp_path / "train/1.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "train/2.png").write_text("no picture", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "train/damaged.jpg", quality=95)
    content = bytearray((tmp_path / "train/damaged.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = np.random.default_rng(1).bytes(500)
    (tmp_path / "train/damaged.jpg").write_bytes(content)
    with (tmp_path / "train.txt").open("a", encoding="utf-8") as file:
        file.write("train/damaged.jpg\n")
    report = check(good)
    unreadable = found(report, "train: unreadable images")
    assert [line.split(": ")[0] for line in unreadable] == [str(tmp_path / f"train/{name}.png") for name in "012"]
    # The decoder gives pixels for it, but says that they are wrong.
    (damaged,) = found(report, "train: damaged images")
    assert damaged.startswith(f"{tmp_path / 'train/damaged.jpg'}: Corrupt JPEG data")
    assert report.errors == 4


def test_same_pictures_and_leakage(good, tmp_path):
    pixels = Image.open(tmp_path / "train/3.png")
    pixels.save(tmp_path / "val/copy.bmp")  # the pixels count, not the file
    (tmp_path / "val/copy.txt").write_text("0 0.5 0.5 0.5 0.5\n", encoding="utf-8")
    pixels = Image.open(tmp_path / "train/5.png")
    pixels.save(tmp_path / "train/twin.png", compress_level=1)
    (tmp_path / "train/twin.txt").write_text(GOOD, encoding="utf-8")
    turned = Image.open(tmp_path / "train/7.png").transpose(Image.Transpose.ROTATE_270)
    turned.save(tmp_path / "val/turned.jpg", quality=80)
    with (tmp_path / "val.txt").open("a", encoding="utf-8") as file:
        file.write("val/copy.bmp\nval/turned.jpg\n../" + tmp_path.name + "/train/9.png\n")
    with (tmp_path / "train.txt").open("a", encoding="utf-8") as file:
        file.write("train/twin.png\ntrain/11.png\n")
    report = check(good)
    leaks = [item.replace(f"{tmp_path}/", "") for item in found(report, "leakage: pictures in val that are in train")]
    assert leaks == [
        "val/copy.bmp = train/3.png (their labels differ, boxes: 1, 2)",
        f"../{tmp_path.name}/train/9.png is in both lists",
    ]
    assert report.errors == 2
    twins = [item.replace(f"{tmp_path}/", "") for item in found(report, "train: same picture")]
    assert twins == ["train/5.png = train/twin.png", "train/11.png is listed 2 times"]
    (copy,) = found(report, "look like one in train")
    assert copy.replace(f"{tmp_path}/", "") == "val/turned.jpg ≈ train/7.png (turned by 90°)"


def test_doubtful_boxes(good, tmp_path):
    lines = [
        "0 0.5 0.5 0.03 0.5",  # 2.9×32 pixels: too small, and matched by nothing
        "0 0.5 0.5 0.9 0.04",  # 86×2.6
        "0 0.5 0.5 0.25 0.25 0.9",  # a score
        "1 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6",  # a polygon
        "1 0.5 0.5 0.25 0.5",
        "1 0.5 0.5 0.25 0.5",
    ]
    (tmp_path / "train/0.txt").write_text("\n".join(lines), encoding="utf-8")
    report = check(good)
    assert report.sets["train"].too_small.sum() == 2
    assert report.sets["train"].unmatched.sum() == 2
    small, unmatched = found(report, "train: boxes")
    assert small.startswith("2 of 28 boxes (7.1%) are smaller than 4 pixels")
    assert unmatched.startswith("2 of 28 boxes (7.1%) are unlike every anchor")
    assert len(found(report, "train: label lines")) == 2
    assert found(report, "train: same line twice") == [f"{tmp_path / 'train/0.png'}: 1 box more than once"]


def test_class_without_boxes(tmp_path):
    write_set(tmp_path, "train", 3)
    report = check(write_data(tmp_path, names=("cat", "dog", "cow", "猫"), train="train.txt"))
    assert found(report, "train: classes without boxes") == ["cow, 猫"]
    assert found(report, "val: no list") == [f"{tmp_path / 'small.data'} has val=None"]


def test_a_set_without_any_box(tmp_path, run_script):
    write_picture(tmp_path / "a.png")
    (tmp_path / "train.txt").write_text("a.png\n", encoding="utf-8")
    data = write_data(tmp_path)
    result = run_script("tools/check_dataset.py", "--data", data, "--plots", "--output", tmp_path / "plots")
    assert result.returncode == 0, result.stderr
    assert "train: classes without boxes (1)" in result.stdout
    assert sorted(path.name for path in (tmp_path / "plots/small").iterdir()) == ["classes.png", "mosaic.png"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)), max_size=50))
def test_histograms_count_every_box(sizes):
    by_size, by_aspect = histograms(np.array(sizes).reshape(-1, 2))
    assert by_size.sum() == by_aspect.sum() == len(sizes)
    assert (len(by_size), len(by_aspect)) == (len(SIZE_EDGES) - 1, len(ASPECT_EDGES) - 1)


def test_histogram_bins():
    by_size, by_aspect = histograms(np.array([[3, 3], [4, 4], [300, 300], [10, 41], [41, 10], [10, 10.1]]))
    assert by_size.tolist() == [1, 1, 1, 2, 0, 0, 0, 1]
    assert by_aspect.tolist() == [1, 0, 0, 4, 0, 0, 1]


# --- pictures that look alike ---


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), turned=st.sampled_from([0, 90, 180, 270]), mirrored=st.booleans())
def test_turned_and_mirrored_copies_are_found(seed, turned, mirrored):
    random = np.random.default_rng(seed)
    pictures = [np.kron(random.integers(0, 256, (12, 16, 3), np.uint8), np.ones((8, 8, 1), np.uint8)) for _ in range(4)]
    copy = np.rot90(pictures[2], turned // 90)
    copy = copy[:, ::-1] if mirrored else copy
    # find_look_alikes says how the copy becomes the original, so the original is what is looked up.
    (hit,) = find_look_alikes(thumbnails([pictures[2]]), thumbnails([pictures[0], copy, pictures[1]]))
    assert hit == (0, 1, turned, mirrored)
    assert find_look_alikes(thumbnails([pictures[3]]), thumbnails(pictures[:3])) == []


def thumbnails(pictures):
    return np.stack([make_thumbnail(np.ascontiguousarray(picture)) for picture in pictures])


def test_flat_pictures_are_not_copies_of_each_other():
    flat = thumbnails([np.full((20, 30, 3), level, np.uint8) for level in (0, 90, 255)])
    assert not flat.any()
    assert find_look_alikes(flat, flat) == []
    assert find_look_alikes(flat, flat[:0]) == []


def test_saved_again_is_found_and_others_are_not(shared, tmp_path):
    names = sorted((shared / "coco-val128/images").glob("*.jpg"))[:40]
    copies = []
    for path in names[:10]:
        image = Image.open(path).convert("RGB")
        copies.append(tmp_path / path.name)
        image.resize((image.width // 2, image.height // 2)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            copies[-1], quality=60
        )
    first, second = (np.stack([item.thumbnail for item in decode_images(list(part), 1)]) for part in (copies, names))
    hits = find_look_alikes(first, second)
    assert [(hit.first, hit.second, hit.turned, hit.mirrored) for hit in hits] == [
        (number, number, 0, True) for number in range(10)
    ]


# --- the script ---


def test_report_and_plots(good, tmp_path, run_script):
    (tmp_path / "val/1.txt").write_text("0 2 2 2 2\n", encoding="utf-8")
    result = run_script(
        *("tools/check_dataset.py", "--data", good, "--json", "report.json", "--plots", "--output", "plots"),
        cwd=tmp_path,
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout.splitlines()[-6] == "1 error, 2 warnings"
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["errors"], report["warnings"]) == (1, 2)
    assert report["sets"]["train"]["classes"][1] == {"name": "dog", "boxes": 12, "images": 12}
    assert sum(report["sets"]["train"]["box_sizes"].values()) == report["sets"]["train"]["boxes"] == 24
    names = ["box_centres.png", "box_sizes.png", "classes.png", "mosaic.png"]
    folder = tmp_path / "plots/small"
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(f"wrote plots/small/{name}" in result.stdout.replace("\\", "/") for name in names)
    for name in names:
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert len(np.unique(pixels @ np.array([1, 256, 65536]))) > 20  # colours: something is drawn


def test_mosaic_shows_images_with_their_boxes(good, tmp_path):
    from utils.plots.dataset import EXAMPLE_SIDE, save_examples
    from utils.plots.draw import class_color
    from utils.plots.fonts import class_labels

    report = check(good)
    save_examples(tmp_path / "mosaic.png", report.sets["train"].index, class_labels(("cat", "dog")))
    mosaic = read_image(tmp_path / "mosaic.png")
    assert mosaic.shape[1] > 4 * EXAMPLE_SIDE
    # Twelve pictures, each with a box of either class.
    for number in range(2):
        rows, columns = np.nonzero((mosaic == class_color(number)).all(2))
        assert (
            len(
                {
                    (row * 3 // len(mosaic), column * 4 // mosaic.shape[1])
                    for row, column in zip(rows, columns, strict=True)
                }
            )
            == 12
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "train.txt").unlink(), "train.txt: expected a list of images"),
        (lambda folder: (folder / "train.txt").write_text("notes.md\n"), "train.txt:1: expected the path of an image"),
        (lambda folder: (folder / "small.data").write_text("epochs=2\n"), "small.data: missing key"),
        (lambda folder: (folder / "small.data").unlink(), "small.data: cannot read"),
    ],
)
def test_what_cannot_be_checked_is_one_line(change, message, good, tmp_path, run_script):
    change(tmp_path)
    result = run_script("tools/check_dataset.py", "--data", good, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_text_and_json_agree(good):
    config = read_config(good)
    report = check(good)
    content = as_dictionary(report, config)
    lines = [line.split() for line in as_text(report, config).splitlines()]
    train, val = content["sets"]["train"], content["sets"]["val"]
    assert ["images", str(train["images"]), str(val["images"])] in lines
    assert ["boxes", str(train["boxes"]), str(val["boxes"])] in lines
    assert ["0", "cat", "12", "50.0%", "12", "4", "50.0%", "4"] in lines
    assert json.loads(json.dumps(content))["findings"] == [finding._asdict() for finding in report.findings]


def test_mask(shared, tmp_path):
    """Photos with two copies across the lists, which `md5sum` shows too."""
    lists = {key: shared / "mask" / f"{key}.txt" for key in ("train", "val")}
    report = check(write_data(tmp_path, names=("mask", "no mask"), **lists))
    assert {key: facts.class_boxes.tolist() for key, facts in report.sets.items()} == {
        "train": [2439, 636],
        "val": [684, 148],
    }
    leaks = found(report, "leakage: pictures in val that are in train")
    assert [line.split(" (")[0].replace(f"{shared}/mask/", "") for line in leaks] == [
        "val/0382.jpg = train/0383.jpg",
        "val/0585.jpg = train/0586.jpg",
    ]
    assert report.errors == 2


@pytest.mark.slow
def test_helmet(shared, tmp_path):
    """Its validation set is for the most part turned and mirrored copies of training photos."""
    lists = {key: shared / "helmet" / f"{key}.txt" for key in ("train", "val")}
    report = check(write_data(tmp_path, names=("helmet", "head"), **lists))
    assert report.errors == len(found(report, "leakage: pictures in val that are in train")) == 11
    assert len(found(report, "look like one in train")) > 330
