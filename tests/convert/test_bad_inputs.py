"""Bad input files; `bad_inputs/expected.tsv` has the exit status, and start and key word of the message, of each."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.dataset_files import write_data
from utils.convert import coco, voc
from utils.convert.annotations import Problems, choose_classes
from utils.convert.locate import find_images, label_images
from utils.convert.options import ImportOptions
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
    return [pytest.param(row["file"], int(row["status"]), row["start"], row["key"], id=row["file"]) for row in chosen]


def assert_message(lines, start, key):
    """Check that one message starts with `start` and contains `key`, and that all messages are one line."""
    assert [line for line in lines if line.startswith(f"{start}: ") and key in line.removeprefix(start)], lines
    assert not [line for line in lines if "\n" in line]


def import_labels(reader, source):
    """Return the exit status of an import, its messages and its images."""
    problems = Problems()
    options = ImportOptions(Path(source), Path("out"), images=Path("images"))
    part = options.sets_of(options.source)["train"]
    try:
        annotations = reader.read(part, options, problems)
        folder, paths = find_images(annotations.images, part.image_folders)
        class_names = choose_classes({"train": annotations})
        labeled = label_images(annotations.images, paths, folder, class_names, problems)
    except InputError as error:
        return 2, [str(error)], []
    return 1 if problems.dropped else 0, problems.dropped, labeled


def test_every_file_is_in_the_table():
    listed = {row.values[0] for kind in ("coco", "voc", "labels", "lists") for row in read_expected(kind)}
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*") if path.parent.name != "images"}
    assert listed == files


@pytest.mark.parametrize(("file", "status", "start", "key"), read_expected("coco"))
def test_coco(file, status, start, key, monkeypatch):
    monkeypatch.chdir(FOLDER)
    found, messages, _ = import_labels(coco, file)
    assert found == status
    assert_message(messages, start, key)


@pytest.mark.parametrize(("file", "status", "start", "key"), read_expected("voc"))
def test_voc(file, status, start, key, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("voc").mkdir()
    shutil.copy(FOLDER / file, "voc")
    Path("voc/good.xml").write_text(GOOD_XML, encoding="utf-8")
    shutil.copytree(FOLDER / "images", "images")
    found, messages, labeled = import_labels(voc, "voc")
    assert found == status
    assert_message(messages, start, key)
    # The other file is imported.
    assert [image.labels for image in labeled if image.name.name == "b.png"] == [[(0, 0.25, 1 / 3, 0.5, 2 / 3)]]


@pytest.mark.parametrize(("file", "status", "start", "key"), read_expected("labels"))
def test_labels(file, status, start, key, monkeypatch):
    monkeypatch.chdir(FOLDER)
    try:
        messages = [f"{file}:{line}: {message}" for line, message in parse_labels(read_text(file), classes=2).problems]
    except InputError as error:
        messages = [str(error)]
    assert_message(messages, start, key)
    assert len(messages) == status


@pytest.mark.parametrize(("file", "status", "start", "key"), read_expected("lists"))
def test_lists(file, status, start, key, monkeypatch):
    monkeypatch.chdir(FOLDER)
    with pytest.raises(InputError) as raised:
        list_images(file)
    assert status == 2
    assert_message([str(raised.value)], start, key)


def test_the_checker_finds_every_bad_label(run_script, tmp_path):
    cases = [row.values for row in read_expected("labels")]
    names = [Path(file).name for file, *_ in cases]
    for name in names:
        shutil.copy(FOLDER / "labels" / name, tmp_path)
        shutil.copy(FOLDER / "images" / "a.png", (tmp_path / name).with_suffix(".png"))
    # All images are identical, which is only a warning.
    (tmp_path / "train.txt").write_text("\n".join(f"{Path(name).stem}.png" for name in names), encoding="utf-8")
    data = write_data(tmp_path, names=("one", "two"), train="train.txt")
    result = run_script("tools/check_dataset.py", "--data", data, "--json", tmp_path / "report.json")
    assert result.returncode == 1, result.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    (finding,) = [finding for finding in report["findings"] if finding["kind"] == "train: malformed labels"]
    for _, _, start, key in cases:
        assert_message(finding["items"], f"{tmp_path}/{start.removeprefix('labels/')}", key)
    assert len(finding["items"]) == len(cases) == report["errors"]


def test_the_importer_lists_what_it_drops(run_script, tmp_path):
    result = run_script(
        *("tools/import_dataset.py", FOLDER / "coco/image_missing.json", "--images", FOLDER / "images"),
        *("--output", tmp_path / "out"),
    )
    assert result.returncode == 1
    assert "dropped: " in result.stderr
    assert "image id 2: image not found" in (tmp_path / "out/problems.txt").read_text(encoding="utf-8")
    assert (tmp_path / "out/out-train.txt").read_text(encoding="utf-8") == "images/train/a.png\n"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("tools/import_dataset.py", (FOLDER / "coco/not_json.json",)),
        ("tools/import_dataset.py", (FOLDER / "coco/box_missing.json", "--images", FOLDER / "none")),
        ("tools/import_dataset.py", (FOLDER / "images", "--format", "voc")),
        ("tools/export_coco.py", ("--list", FOLDER / "lists/empty.txt", "--names", FOLDER / "lists/binary.txt")),
    ],
)
def test_tools_print_one_line(script, arguments, run_script, tmp_path):
    result = run_script(script, *arguments, "--output", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
