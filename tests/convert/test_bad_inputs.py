"""A folder of bad inputs, and what is said of each: `bad_inputs/expected.tsv` has file, exit status, message."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.dataset_files import write_data
from utils.convert.annotations import Findings, choose_classes, locate
from utils.convert.coco import read_coco
from utils.convert.voc import read_voc
from utils.dataset.labels import parse_labels
from utils.dataset.lists import list_images
from utils.errors import InputError
from utils.files import read_text

FOLDER = Path(__file__).parent / "bad_inputs"
GOOD_XML = """<annotation><filename>b.png</filename><object><name>cat</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>"""


def read_expected(kind):
    with (FOLDER / "expected.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    chosen = [row for row in rows if row["file"].startswith(kind + "/")]
    return [pytest.param(row["file"], int(row["status"]), row["message"], id=row["file"]) for row in chosen]


def check_said(lines, message):
    """One line of all that was said is the expected one, and no line is two."""
    assert [line for line in lines if line.startswith(message)], lines
    assert not [line for line in lines if "\n" in line]


def outcome(read):
    """(exit status that the tool would have, what it would say)."""
    findings = Findings()
    try:
        read(findings)
    except InputError as error:
        return 2, [str(error)]
    return 1 if findings.dropped else 0, findings.dropped


def test_every_file_has_its_message():
    listed = {row.values[0] for kind in ("coco", "voc", "labels", "lists") for row in read_expected(kind)}
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*") if path.parent.name != "images"}
    assert listed == there


@pytest.mark.parametrize(("file", "status", "message"), read_expected("coco"))
def test_coco(file, status, message, monkeypatch):
    monkeypatch.chdir(FOLDER)

    def read(findings):
        sets = {"train": read_coco(file, findings)}
        locate(sets["train"].images, "images", choose_classes(sets), findings)

    found, lines = outcome(read)
    assert found == status
    check_said(lines, message)


@pytest.mark.parametrize(("file", "status", "message"), read_expected("voc"))
def test_voc(file, status, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("voc").mkdir()
    shutil.copy(FOLDER / file, "voc")
    Path("voc/good.xml").write_text(GOOD_XML, encoding="utf-8")
    shutil.copytree(FOLDER / "images", "images")
    located = []

    def read(findings):
        sets = read_voc("voc", findings)
        located.extend(locate(sets["train"].images, "images", choose_classes(sets), findings))

    found, lines = outcome(read)
    assert found == status
    check_said(lines, message)
    # One bad file costs no other.
    assert [image.labels for image in located if image.name.name == "b.png"] == [[(0, 0.25, 1 / 3, 0.5, 2 / 3)]]


@pytest.mark.parametrize(("file", "status", "message"), read_expected("labels"))
def test_labels(file, status, message, monkeypatch):
    monkeypatch.chdir(FOLDER)
    try:
        lines = [f"{file}:{line}: {message}" for line, message in parse_labels(read_text(file), classes=2).problems]
    except InputError as error:
        lines = [str(error)]
    check_said(lines, message)
    assert len(lines) == status


@pytest.mark.parametrize(("file", "status", "message"), read_expected("lists"))
def test_lists(file, status, message, monkeypatch):
    monkeypatch.chdir(FOLDER)
    with pytest.raises(InputError) as raised:
        list_images(file)
    assert status == 2
    check_said([str(raised.value)], message)


def test_the_checker_finds_every_bad_label(run_script, tmp_path):
    cases = [row.values for row in read_expected("labels")]
    for file, _, _ in cases:
        shutil.copy(FOLDER / file, tmp_path)
        shutil.copy(FOLDER / "images" / "a.png", (tmp_path / Path(file).name).with_suffix(".png"))
    # The pictures are all the same, which is a warning only.
    (tmp_path / "train.txt").write_text("\n".join(f"{Path(file).stem}.png" for file, _, _ in cases), encoding="utf-8")
    data = write_data(tmp_path, names=("one", "two"), train="train.txt")
    result = run_script("tools/check_dataset.py", "--data", data, "--json", tmp_path / "report.json")
    assert result.returncode == 1, result.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (found,) = [finding for finding in report["findings"] if finding["kind"] == "train: malformed labels"]
    for file, _, message in cases:
        place = f"{tmp_path / Path(file).name}{message.removeprefix(file)}"
        assert [line for line in found["items"] if line.startswith(place)], place
    assert len(found["items"]) == len(cases) == report["errors"]


def test_the_converter_lists_what_it_drops(run_script, tmp_path):
    result = run_script(
        *("tools/coco_to_darknet.py", "--json", FOLDER / "coco/image_missing.json", "--images", FOLDER / "images"),
        *("--output", tmp_path / "out"),
    )
    assert result.returncode == 1
    assert "dropped: " in result.stderr
    assert "image id 2: image not found" in (tmp_path / "out/problems.txt").read_text(encoding="utf-8")
    assert (tmp_path / "out/out-train.txt").read_text(encoding="utf-8") == "images/train/a.png\n"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("tools/coco_to_darknet.py", ("--json", FOLDER / "coco/not_json.json", "--images", FOLDER / "images")),
        ("tools/coco_to_darknet.py", ("--json", FOLDER / "coco/none.json", "--images", FOLDER / "images")),
        ("tools/coco_to_darknet.py", ("--json", FOLDER / "coco/box_missing.json", "--images", FOLDER / "none")),
        ("tools/voc_to_darknet.py", ("--annotations", FOLDER / "none", "--images", FOLDER / "images")),
        ("tools/voc_to_darknet.py", ("--annotations", FOLDER / "images", "--images", FOLDER / "images")),
        ("tools/darknet_to_coco.py", ("--list", FOLDER / "images")),
        ("tools/darknet_to_coco.py", ("--list", FOLDER / "lists/empty.txt", "--names", FOLDER / "lists/binary.txt")),
    ],
)
def test_tools_say_one_line(script, arguments, run_script, tmp_path):
    result = run_script(script, *arguments, "--output", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
