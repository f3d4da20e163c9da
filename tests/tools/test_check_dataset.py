"""The script that checks a data set; the checks are tested in tests/check."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.checked_sets import check, write_good_sets
from tests.helpers.dataset_files import write_data, write_image
from utils.dataset.images import read_image

pytestmark = pytest.mark.slow

SCRIPT = "tools/check_dataset.py"


@pytest.fixture
def good(tmp_path):
    """The .data file of two small sets without errors."""
    return write_good_sets(tmp_path)


def test_report_and_plots(good, tmp_path, run_script):
    (tmp_path / "val/1.txt").write_text("0 2 2 2 2\n", encoding="utf-8")
    result = run_script(
        *(SCRIPT, "--data", good, "--json", "report.json", "--plots", "--output", "plots"),
        cwd=tmp_path,
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout.splitlines()[-6] == "1 error, 4 warnings"
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (report["errors"], report["warnings"]) == (1, 4)
    assert report["sets"]["train"]["classes"][1] == {"name": "dog", "boxes": 12, "images": 12}
    assert sum(report["sets"]["train"]["box_sizes"].values()) == report["sets"]["train"]["boxes"] == 24
    names = ["box_centers.png", "box_sizes.png", "classes.png", "mosaic.png"]
    folder = tmp_path / "plots/small"
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(f"wrote plots/small/{name}" in result.stdout.replace("\\", "/") for name in names)
    for name in names:
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert len(np.unique(pixels @ np.array([1, 256, 65536]))) > 20  # colors: the plot is not empty


def test_mosaic_shows_images_with_their_boxes(good, tmp_path):
    from utils.plots.dataset import EXAMPLE_SIDE, save_examples
    from utils.plots.draw import class_color
    from utils.plots.fonts import class_labels

    report = check(good)
    save_examples(tmp_path / "mosaic.png", report.sets["train"].index, class_labels(("cat", "dog")))
    mosaic = read_image(tmp_path / "mosaic.png")
    assert mosaic.shape[1] > 4 * EXAMPLE_SIDE
    # Twelve images, each with a box of either class.
    for class_id in range(2):
        rows, columns = np.nonzero((mosaic == class_color(class_id)).all(2))
        assert (
            len(
                {
                    (row * 3 // len(mosaic), column * 4 // mosaic.shape[1])
                    for row, column in zip(rows, columns, strict=True)
                }
            )
            == 12
        )


def test_a_set_without_any_box(tmp_path, run_script):
    write_image(tmp_path / "a.png")
    (tmp_path / "train.txt").write_text("a.png\n", encoding="utf-8")
    data = write_data(tmp_path)
    result = run_script(SCRIPT, "--data", data, "--plots", "--output", tmp_path / "plots")
    assert result.returncode == 0, result.stderr
    assert "train: classes without boxes (2)" in result.stdout
    assert sorted(path.name for path in (tmp_path / "plots/small").iterdir()) == ["classes.png", "mosaic.png"]


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (lambda folder: (folder / "train.txt").unlink(), "train.txt: "),
        (lambda folder: (folder / "train.txt").write_text("notes.md\n"), "train.txt:1: "),
        (lambda folder: (folder / "small.data").write_text("epochs=2\n"), "small.data: "),
        (lambda folder: (folder / "small.data").unlink(), "small.data: "),
    ],
)
def test_bad_input_is_one_line(change, start, good, tmp_path, run_script):
    change(tmp_path)
    result = run_script(SCRIPT, "--data", good, cwd=tmp_path)
    assert result.returncode == 2
    assert start in result.stderr
    assert result.stderr.count("\n") == 1
