"""Which layers stay in floating point."""

import pytest
import torch

from utils.export.sensitivity import choose_float_layers, disagreement
from utils.postprocess import Predictions


def predictions(scores, labels=(0, 1, 1), shift=0.0):
    boxes = torch.tensor([[10.0, 10, 10, 10], [50, 50, 20, 20], [90, 20, 8, 8]])[None]
    boxes[..., 0] += shift
    scores = torch.tensor([scores])
    return Predictions(boxes, scores.sqrt(), scores, torch.tensor([labels]))


REFERENCE = [predictions((0.8, 0.5, 0.7))]


def test_the_same_agree():
    assert disagreement(REFERENCE, REFERENCE) == pytest.approx(0, abs=1e-6)


def test_a_changed_score_counts_as_a_share_of_all():
    assert disagreement(REFERENCE, [predictions((0.6, 0.5, 0.7))]) == pytest.approx(0.2 / 2, abs=1e-5)


def test_another_class_is_a_lost_score():
    assert disagreement(REFERENCE, [predictions((0.8, 0.5, 0.7), (0, 1, 0))]) == pytest.approx(0.7 / 2, abs=1e-5)


def test_a_moved_box_counts_by_its_score():
    # Boxes 10, 20 and 8 wide are moved by 2.
    lost = [score * (1 - (side - 2) / (side + 2)) for score, side in ((0.8, 10), (0.5, 20), (0.7, 8))]
    assert disagreement(REFERENCE, [predictions((0.8, 0.5, 0.7), shift=2)]) == pytest.approx(sum(lost) / 2, abs=1e-5)


def test_what_nobody_sees_does_not_count():
    hidden = [predictions((0.8, 0.5, 0.009))]
    assert disagreement(hidden, [predictions((0.8, 0.5, 0.002), (0, 1, 0))]) == pytest.approx(0, abs=1e-6)


def test_nothing_found_at_all():
    nothing = [predictions((0.0, 0.0, 0.0))]
    assert disagreement(nothing, REFERENCE) == 0


HARM = {"a": 0.02, "b": 0.4, "c": 0.0, "d": 0.1, "e": 0.2}


def choose(sizes, most_weights):
    asked = []

    def predict(names):
        asked.append(names)
        return [predictions((0.8 - 2 * HARM[names[0]] if names else 0.8, 0.5, 0.7))]

    found = choose_float_layers(sizes, predict, predict([]), tolerance=0.05, most_weights=most_weights)
    assert asked == [[], *([name] for name in HARM)]
    return found


def test_the_worst_layers_are_chosen_worst_first():
    found = choose(dict.fromkeys(HARM, 10), most_weights=1)
    assert list(found) == ["b", "e", "d"]
    assert found == pytest.approx({"b": 0.4, "e": 0.2, "d": 0.1}, abs=1e-5)


def test_no_more_than_a_share_of_the_weights_stays():
    assert list(choose(dict.fromkeys(HARM, 10), most_weights=0.45)) == ["b", "e"]
    # What is too large for what is left of the share makes room for the next one.
    assert list(choose({**dict.fromkeys(HARM, 10), "e": 60}, most_weights=0.3)) == ["b", "d"]
    assert choose(dict.fromkeys(HARM, 10), most_weights=0) == {}
