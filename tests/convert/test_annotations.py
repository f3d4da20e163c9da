"""The class names of an imported data set."""

import pytest

from utils.convert.annotations import AnnotatedImage, Annotations, Box, choose_classes
from utils.errors import InputError


def annotate(class_names, listed):
    boxes = [Box(name, (0, 0, 1, 1), "here") for name in class_names]
    return Annotations([AnnotatedImage(("a.png",), None, boxes, "here")], class_names if listed else None)


def test_listed_classes_are_those_of_the_training_set():
    train = annotate(("dog", "cat"), listed=True)
    assert choose_classes({"train": train, "val": annotate(("cat",), listed=True)}) == ("dog", "cat")
    with pytest.raises(InputError, match="'bird'"):
        choose_classes({"train": train, "val": annotate(("cat", "bird"), listed=True)})


def test_classes_that_are_not_listed_are_collected_from_both_sets():
    sets = {"train": annotate(("dog", "cat"), listed=False), "val": annotate(("cat", "bird"), listed=False)}
    assert choose_classes(sets) == ("dog", "cat", "bird")


def test_classes_that_differ_in_case_only_cause_a_warning(capsys):
    sets = {"train": annotate(("Helmet", "head"), listed=False), "val": annotate(("helmet", "head"), listed=False)}
    assert choose_classes(sets) == ("Helmet", "head", "helmet")
    (line,) = capsys.readouterr().err.splitlines()
    assert "'Helmet'" in line
    assert "'helmet'" in line


@pytest.mark.parametrize("listed", [True, False])
def test_names_choose_classes_and_their_order(listed, tmp_path):
    sets = {"train": annotate(("cat", "dog"), listed), "val": annotate(("dog", "bird"), listed)}
    names = tmp_path / "x.names"
    names.write_text("bird\ncat\n", encoding="utf-8")
    assert choose_classes(sets, names) == ("bird", "cat")
    names.write_text("cow\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"x\.names: .*'cow'.*'bird', 'cat', 'dog'"):
        choose_classes(sets, names)
