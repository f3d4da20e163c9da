"""Plots and images of a training run."""

import cv2
import pytest

from utils.plots.training import draw_results


@pytest.mark.parametrize("evaluated", [False, True])
def test_results_are_drawn_with_and_without_an_evaluation(evaluated, tmp_path, capfd):
    row = dict.fromkeys(("learning_rate", "total", "box", "objectness", "classes"), 1e-6)
    metrics = dict.fromkeys(("AP50", "AP", "precision", "recall", "original_AP", "F1"), 0.5) if evaluated else {}
    history = [{"epoch": epoch, **row, **(metrics if epoch == 2 else {})} for epoch in (1, 2)]
    draw_results(tmp_path, history)
    assert cv2.imread(str(tmp_path / "results.png")).shape == (700, 1200, 3)
    assert capfd.readouterr() == ("", "")
