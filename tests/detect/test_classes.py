"""The classes that --classes selects, by ids and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.detect.classes import select_classes
from utils.errors import InputError

NAMES = ("person", "traffic light", "Dog", "dog house", "cup, mug", "cat", "cat", "7")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("0", (0,)),
        ("3,0,3", (0, 3)),
        ("person", (0,)),
        ("traffic light, 2", (1, 2)),
        ("DOG", (2,)),
        ("cup, mug", (4,)),
        ("cat", (5, 6)),
        ("7", (7,)),
    ],
)
def test_ids_and_names(text, ids):
    assert select_classes(text, NAMES) == ids


@pytest.mark.parametrize(
    ("text", "got"),
    [
        *(
            ("8", "8"),
            ("-1", "-1"),
            ("0,99", "99"),
            ("persn", "'persn'.*person"),
            ("Traffic", "'Traffic'.*traffic light"),
        ),
        *(("", "''.*person"), ("0,,2", "''"), ("xyz", "'xyz'.*person, traffic light"), ("1.0", r"'1\.0'")),
    ],
)
def test_unknown_classes_are_an_error_that_names_the_nearest(text, got):
    with pytest.raises(InputError, match=f"--classes: expected .*{got}"):
        select_classes(text, NAMES)


@given(st.sets(st.integers(0, 99)), st.data())
def test_ids_and_names_select_the_same(ids, data):
    names = [f"class {index}" for index in range(100)]
    parts = [data.draw(st.sampled_from((str(index), names[index]))) for index in sorted(ids)] or ["0"]
    assert select_classes(",".join(parts), names) == (tuple(sorted(ids)) or (0,))
