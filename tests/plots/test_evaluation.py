"""The pictures of an evaluation: written, of the expected size, with what they must show, and silently."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.measured import FRAME, detections_of, index_of, labels_of
from utils.dataset.coco import coco_content
from utils.evaluation.coco import coco_metrics, coco_results
from utils.evaluation.confusion import confusion_matrix
from utils.plots import evaluation as plots
from utils.plots.fonts import class_labels

BOX, FAR_BOX = (10, 10, 60, 60), (200, 200, 300, 260)
FILES = ["precision_recall.png", "f1.png", "confusion_matrix.png"]


def measure(classes, detected=True, labelled=True, names=None):
    """(CocoMetrics, confusion matrix) of a class an image, every second one detected."""
    names = names or [f"class {number}" for number in range(classes)]
    labels = [labels_of((*BOX, number)) if labelled else labels_of() for number in range(classes)]
    detections = [
        detections_of((*(BOX if number % 2 == 0 else FAR_BOX), 0.4 + 0.5 * number / classes, number))
        if detected
        else detections_of()
        for number in range(classes)
    ]
    index = index_of(labels)
    results = coco_results(detections, range(1, classes + 1), FRAME, index.sizes)
    coco = coco_metrics(results, coco_content(index, names, "."))
    return coco, confusion_matrix(detections, labels, FRAME, classes)


def tags_of(coco):
    return class_labels([row.name for row in coco.classes])


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that are written, in order."""
    written = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda figure, path: (written.append(figure), save(figure, path)))
    return written


def legend_texts(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def size_of(path):
    with Image.open(path) as picture:
        picture.load()
        return picture.size


@pytest.mark.parametrize("classes", [2, 80])
def test_all_three_are_written(classes, tmp_path, capfd):
    paths = plots.save_plots(tmp_path / "new folder", *measure(classes))
    assert [path.name for path in paths] == FILES
    assert [path.name for path in sorted(tmp_path.glob("*/*"))] == sorted(FILES)
    assert size_of(paths[0]) == size_of(paths[1]) == (1200, 750)
    # At least 24 pixels a class.
    assert min(size_of(paths[2])) >= 24 * (classes + 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("detected", "labelled"), [(False, True), (True, False), (False, False)])
def test_nothing_detected_or_nothing_labelled(detected, labelled, tmp_path, capfd):
    paths = plots.save_plots(tmp_path, *measure(2, detected, labelled))
    assert all(size_of(path) for path in paths)
    assert capfd.readouterr() == ("", "")


def test_few_classes_are_named_with_their_values(figures, tmp_path):
    coco, _ = measure(2, names=["hard hat", "_head $a$"])
    plots.save_precision_recall(tmp_path / "p.png", coco, tags_of(coco))
    plots.save_f1(tmp_path / "f.png", coco, tags_of(coco))
    for figure in figures:
        assert legend_texts(figure) == ["hard hat  1.000", "_head $a$  0.000", "mean of the classes"]
    assert "mean AP50 0.500" in figures[0].axes[0].get_title()


def test_one_class_has_no_mean(figures, tmp_path):
    coco, _ = measure(1, names=["mask"])
    plots.save_precision_recall(tmp_path / "p.png", coco, tags_of(coco))
    assert legend_texts(figures[0]) == ["mask  1.000"]


def test_many_classes_are_counted_in_the_legend(figures, tmp_path):
    coco, _ = measure(80)
    plots.save_precision_recall(tmp_path / "p.png", coco, tags_of(coco))
    assert legend_texts(figures[0]) == ["each of 80 classes", "mean of the classes"]
    assert len(figures[0].axes[0].lines) == 81


def test_classes_without_labels_have_no_line(figures, tmp_path):
    coco = coco_metrics([], coco_content(index_of([labels_of((*BOX, 1))]), ["a", "b", "c"], "."))
    plots.save_precision_recall(tmp_path / "p.png", coco, tags_of(coco))
    assert legend_texts(figures[0]) == ["b  0.000"]


def test_the_best_threshold_is_marked(figures, tmp_path):
    coco, _ = measure(2)
    plots.save_f1(tmp_path / "f.png", coco, tags_of(coco))
    mark = figures[0].axes[0].lines[-1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (coco.overall.threshold, coco.overall.f1)


def test_the_matrix_names_and_counts(figures, tmp_path):
    matrix = np.array([[5, 1, 0], [0, 2000, 4], [3, 0, 0]])
    plots.save_confusion_matrix(tmp_path / "m.png", matrix, class_labels(["hard hat", "$x$"]))
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["hard hat", "$x$", "background"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["hard hat", "$x$", "background"]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "5", (1, 0): "1", (1, 1): "2000", (2, 1): "4", (0, 2): "3"}


def test_long_counts_are_shortened_in_small_cells(figures, tmp_path):
    matrix = np.zeros((21, 21), int)
    matrix[3, 4], matrix[5, 6] = 11004, 999
    plots.save_confusion_matrix(tmp_path / "m.png", matrix, class_labels([f"c{n}" for n in range(20)]))
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["11k", "999"]


def test_of_too_many_classes_some_are_named(figures, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "TICKS", 3)
    matrix = np.eye(6, dtype=int)
    plots.save_confusion_matrix(tmp_path / "m.png", matrix, class_labels(list("abcde")))
    for axis in (figures[0].axes[0].xaxis, figures[0].axes[0].yaxis):
        assert [text.get_text() for text in axis.get_ticklabels()] == ["a", "c", "e"]
        assert list(axis.get_ticklocs()) == [0, 2, 4]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["größe", "каска", "κράνος", "安全帽", "헬멧", "$\\frac{", "%s {0}", "a" * 300])
def test_any_name_is_drawn_without_a_warning_of_matplotlib(name, tmp_path, capfd):
    plots.save_plots(tmp_path, *measure(2, names=[name, "plain"]))
    assert all(line.startswith("warning: no font") for line in capfd.readouterr().err.splitlines())


def test_a_font_without_digits_draws_the_name_alone(figures, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "find_font", lambda text: None)
    coco, _ = measure(1, names=["mask"])
    plots.save_f1(tmp_path / "f.png", coco, tags_of(coco))
    assert legend_texts(figures[0]) == ["mask"]


def test_importing_and_drawing_leave_pyplot_alone(tmp_path, repo):
    program = (
        "import sys, numpy; from utils.plots.evaluation import save_confusion_matrix; "
        "from utils.plots.fonts import class_labels; "
        f"save_confusion_matrix({str(tmp_path / 'm.png')!r}, numpy.eye(3, dtype=int), class_labels(['a', 'b'])); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
