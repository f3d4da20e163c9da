"""The plots of an evaluation: their files, sizes and contents."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.helpers.measured import FRAME, detections_of, index_of, labels_of
from tests.plots.test_fonts import HARD_NAMES
from utils.dataset.coco_json import coco_content
from utils.evaluation.coco import coco_metrics, coco_results
from utils.evaluation.confusion import confusion_matrix
from utils.plots import evaluation as plots
from utils.plots.fonts import class_labels

pytestmark = pytest.mark.slow

BOX, FAR_BOX = (10, 10, 60, 60), (200, 200, 300, 260)
NAMES = ("größe", "каска", "κράνος", "安全帽", "헬멧", "$\\frac{", "$x$", "%s {0}", "_a", "a" * 300, *HARD_NAMES)
FILES = ["precision_recall.png", "f1.png", "confusion_matrix.png"]


def measure(classes, detected=True, labeled=True, names=None):
    """(CocoMetrics, confusion matrix, ClassLabels) of one image per class; every second class is detected."""
    names = names or [f"class {class_id}" for class_id in range(classes)]
    labels = [labels_of((*BOX, class_id)) if labeled else labels_of() for class_id in range(classes)]
    detections = [
        detections_of((*(BOX if class_id % 2 == 0 else FAR_BOX), 0.4 + 0.5 * class_id / classes, class_id))
        if detected
        else detections_of()
        for class_id in range(classes)
    ]
    index = index_of(labels)
    results = coco_results(detections, range(1, classes + 1), range(1, classes + 1), FRAME, index.sizes)
    coco = coco_metrics(results, coco_content(index, names, "."))
    return coco, confusion_matrix(detections, labels, FRAME, classes), class_labels(names)


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures that are written, in order."""
    written = []
    saved_figure = plots.saved_figure

    @contextlib.contextmanager
    def recorded(*arguments, **options):
        with saved_figure(*arguments, **options) as figure:
            written.append(figure)
            yield figure

    monkeypatch.setattr(plots, "saved_figure", recorded)
    return written


def legend_texts(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def size_of(path):
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("classes", [2, 80])
def test_all_plots_are_written(classes, tmp_path, capfd):
    paths = plots.save_plots(tmp_path / "new folder", *measure(classes))
    assert [path.name for path in paths] == FILES
    assert [path.name for path in sorted(tmp_path.glob("*/*"))] == sorted(FILES)
    assert size_of(paths[0]) == size_of(paths[1]) == (1200, 750)
    # At least 24 pixels per class.
    assert min(size_of(paths[2])) >= 24 * (classes + 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("detected", "labeled"), [(False, True), (True, False), (False, False)])
def test_no_detections_or_no_labels(detected, labeled, tmp_path, capfd):
    paths = plots.save_plots(tmp_path, *measure(2, detected, labeled))
    assert all(size_of(path) for path in paths)
    assert capfd.readouterr() == ("", "")


def test_few_classes_are_named_with_their_values(figures, tmp_path):
    coco, *_ = measure(2, names=["hard hat", "_head $a$"])
    plots.save_precision_recall(tmp_path / "p.png", coco, [row.name for row in coco.classes])
    plots.save_f1(tmp_path / "f.png", coco, [row.name for row in coco.classes])
    for figure in figures:
        assert legend_texts(figure) == ["hard hat  1.000", "_head $a$  0.000", "mean of the classes"]
    assert "mean AP50 0.500" in figures[0].axes[0].get_title()


def test_one_class_has_no_mean(figures, tmp_path):
    coco, *_ = measure(1, names=["mask"])
    plots.save_precision_recall(tmp_path / "p.png", coco, [row.name for row in coco.classes])
    assert legend_texts(figures[0]) == ["mask  1.000"]


def test_many_classes_are_counted_in_the_legend(figures, tmp_path):
    coco, *_ = measure(80)
    plots.save_precision_recall(tmp_path / "p.png", coco, [row.name for row in coco.classes])
    assert legend_texts(figures[0]) == ["each of 80 classes", "mean of the classes"]
    assert len(figures[0].axes[0].lines) == 81


def test_classes_without_labels_have_no_line(figures, tmp_path):
    coco = coco_metrics([], coco_content(index_of([labels_of((*BOX, 1))]), ["a", "b", "c"], "."))
    plots.save_precision_recall(tmp_path / "p.png", coco, [row.name for row in coco.classes])
    assert legend_texts(figures[0]) == ["b  0.000"]


def test_the_best_threshold_is_marked(figures, tmp_path):
    coco, *_ = measure(2)
    plots.save_f1(tmp_path / "f.png", coco, [row.name for row in coco.classes])
    mark = figures[0].axes[0].lines[-1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (coco.overall.threshold, coco.overall.f1)


def test_the_matrix_names_and_counts(figures, tmp_path):
    matrix = np.array([[5, 1, 0], [0, 2000, 4], [3, 0, 0]])
    plots.save_confusion_matrix(tmp_path / "m.png", matrix, ["hard hat", "$x$"])
    axes = figures[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["hard hat", "$x$", "background"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["hard hat", "$x$", "background"]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(0, 0): "5", (1, 0): "1", (1, 1): "2000", (2, 1): "4", (0, 2): "3"}


@pytest.mark.parametrize("classes", [2, 40])
def test_the_axis_labels_of_the_matrix_are_inside_the_image(classes, figures, tmp_path):
    names = [f"class name {class_id}" if classes > 2 else "mask" for class_id in range(classes)]
    plots.save_confusion_matrix(tmp_path / "m.png", np.eye(classes + 1, dtype=int), names)
    axes = figures[0].axes[0]
    assert axes.yaxis.label.get_window_extent().x0 >= 0
    assert axes.xaxis.label.get_window_extent().y0 >= 0


def test_long_counts_are_shortened_in_small_cells(figures, tmp_path):
    matrix = np.zeros((21, 21), int)
    matrix[3, 4], matrix[5, 6] = 11004, 999
    plots.save_confusion_matrix(tmp_path / "m.png", matrix, [f"c{n}" for n in range(20)])
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["11k", "999"]


def test_with_too_many_classes_only_some_are_named(figures, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "MAX_TICKS", 3)
    matrix = np.eye(6, dtype=int)
    plots.save_confusion_matrix(tmp_path / "m.png", matrix, list("abcde"))
    for axis in (figures[0].axes[0].xaxis, figures[0].axes[0].yaxis):
        assert [text.get_text() for text in axis.get_ticklabels()] == ["a", "c", "e"]
        assert list(axis.get_ticklocs()) == [0, 2, 4]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", range(0, len(NAMES), 8))
def test_any_name_is_drawn_without_a_warning_from_matplotlib(first, tmp_path, capfd):
    names = NAMES[first : first + 8]
    plots.save_plots(tmp_path, *measure(len(names), names=names))
    assert all("--font" in line for line in capfd.readouterr().err.splitlines())


def test_drawing_does_not_import_pyplot(tmp_path, repo):
    program = (
        "import sys, numpy; from utils.plots.evaluation import save_confusion_matrix; "
        f"save_confusion_matrix({str(tmp_path / 'm.png')!r}, numpy.eye(3, dtype=int), ['a', 'b']); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
