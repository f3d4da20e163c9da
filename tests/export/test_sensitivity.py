"""The choice of layers that stay in floating point."""

import pytest
import torch

from utils.export import sensitivity
from utils.export.graph import Predictions
from utils.export.sensitivity import choose_float_layers, disagreement


def predictions(scores, class_ids=(0, 1, 1), shift=0.0):
    boxes = torch.tensor([[10.0, 10, 10, 10], [50, 50, 20, 20], [90, 20, 8, 8]])[None]
    boxes[..., 0] += shift
    scores = torch.tensor([scores])
    return Predictions(boxes, scores, torch.tensor([class_ids]))


REFERENCE = [predictions((0.8, 0.5, 0.7))]


def test_equal_predictions_have_no_disagreement():
    assert disagreement(REFERENCE, REFERENCE) == pytest.approx(0, abs=1e-6)


def test_a_changed_score_counts_as_a_fraction_of_all_scores():
    assert disagreement(REFERENCE, [predictions((0.6, 0.5, 0.7))]) == pytest.approx(0.2 / 2, abs=1e-5)


def test_another_class_counts_as_a_lost_score():
    assert disagreement(REFERENCE, [predictions((0.8, 0.5, 0.7), (0, 1, 0))]) == pytest.approx(0.7 / 2, abs=1e-5)


def test_a_moved_box_counts_times_its_score():
    # Boxes 10, 20 and 8 wide are moved by 2.
    lost = [score * (1 - (side - 2) / (side + 2)) for score, side in ((0.8, 10), (0.5, 20), (0.7, 8))]
    assert disagreement(REFERENCE, [predictions((0.8, 0.5, 0.7), shift=2)]) == pytest.approx(sum(lost) / 2, abs=1e-5)


def test_low_scores_do_not_count():
    hidden = [predictions((0.8, 0.5, 0.009))]
    assert disagreement(hidden, [predictions((0.8, 0.5, 0.002), (0, 1, 0))]) == pytest.approx(0, abs=1e-6)


def test_no_predictions():
    nothing = [predictions((0.0, 0.0, 0.0))]
    assert disagreement(nothing, REFERENCE) == 0


DISAGREEMENT = {"a": 0.02, "b": 0.4, "c": 0.0, "d": 0.1, "e": 0.2}


@pytest.fixture
def choose(monkeypatch):
    monkeypatch.setattr(sensitivity, "TOLERANCE", 0.05)

    def choose(sizes, max_float_weights):
        monkeypatch.setattr(sensitivity, "MAX_FLOAT_WEIGHTS", max_float_weights)
        calls = []

        def predict(names):
            calls.append(names)
            return [predictions((0.8 - 2 * DISAGREEMENT[names[0]] if names else 0.8, 0.5, 0.7))]

        found = choose_float_layers(sizes, predict)
        assert calls == [[], *([name] for name in DISAGREEMENT)]
        return found

    return choose


def test_the_worst_layers_are_chosen_worst_first(choose):
    found = choose(dict.fromkeys(DISAGREEMENT, 10), max_float_weights=1)
    assert list(found) == ["b", "e", "d"]
    assert found == pytest.approx({"b": 0.4, "e": 0.2, "d": 0.1}, abs=1e-5)


def test_at_most_a_fraction_of_the_weights_stays(choose):
    assert list(choose(dict.fromkeys(DISAGREEMENT, 10), max_float_weights=0.45)) == ["b", "e"]
    # A layer that is too large for the rest of the budget is skipped, and the next one is chosen.
    assert list(choose({**dict.fromkeys(DISAGREEMENT, 10), "e": 60}, max_float_weights=0.3)) == ["b", "d"]
    assert choose(dict.fromkeys(DISAGREEMENT, 10), max_float_weights=0) == {}
