"""What people export comes out as it went in, whatever tool has written it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers import yolo_exports as exports
from utils.config import read_config
from utils.convert.importer import import_dataset
from utils.convert.options import ImportOptions
from utils.dataset.index import open_list

pytestmark = pytest.mark.slow

WITH_SETS = [
    *(exports.roboflow, exports.ultralytics, exports.cvat, exports.coco, exports.voc),
    *map(exports.zipped, (exports.roboflow, exports.cvat)),
]
WITHOUT_SETS = [exports.labelimg, exports.label_studio, exports.zipped(exports.labelimg)]
NAMES = ("cat", "hot dog", "猫", "no", "1")  # YAML reads `no` and `1` as other types

stems = st.from_regex(r"\A[a-z0-9äж][a-z0-9äж. _#-]{0,8}[a-z0-9]\Z")
# In thousandths, so that boxes survive a detour over pixels.
sides = st.integers(20, 400).map(lambda value: value / 1000)


@st.composite
def boxes(draw):
    w, h = draw(sides), draw(sides)
    cx, cy = (draw(st.integers(0, 1000)) / 1000 * (1 - side) + side / 2 for side in (w, h))
    return draw(st.integers(0, len(NAMES) - 1)), cx, cy, w, h


@st.composite
def data_sets(draw):
    """[(set, name without suffix, rows)], with at least one box and one image per set; rows of a name differ."""
    names = draw(st.lists(stems, min_size=2, max_size=6, unique_by=str.casefold))
    rows = [draw(st.lists(boxes(), max_size=4, unique=True)) for _ in names]
    rows[0] = rows[0] or [(0, 0.5, 0.5, 0.25, 0.25)]
    keys = ["train", "val", *(draw(st.sampled_from(["train", "val"])) for _ in names[2:])]
    return list(zip(keys, names, rows, strict=True))


def imported(data):
    """{set: {name without suffix: rows with class names, sorted}} of a .data file."""
    config = read_config(data)
    result = {}
    for key in ("train", "val"):
        if getattr(config, key) is None:
            continue
        index = open_list(config, key)
        result[key] = {
            Path(path).stem.removesuffix("_jpg.rf.0a1b"): sorted(
                (config.class_names[int(row[0])], *(round(value, 4) for value in row[1:])) for row in rows.tolist()
            )
            for path, rows in zip(index.images, index.labels, strict=True)
        }
    return result


@pytest.mark.parametrize("write", [*WITH_SETS, *WITHOUT_SETS], ids=lambda write: write.__name__)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(images=data_sets(), place=st.sampled_from(["link", "copy", "auto"]))
def test_what_comes_out_equals_what_went_in(write, images, place):
    with tempfile.TemporaryDirectory() as folder:
        source = write(Path(folder, "in"), images, NAMES)
        origin = 0 if write is exports.voc else None  # corners that are all whole numbers do not show it
        options = ImportOptions(source=Path(source), output=Path(folder, "out"), place=place, origin=origin)
        assert import_dataset(options) == 0
        found = imported(Path(folder, "out", "out.data"))
        expected = {"train": {}, "val": {}}
        for key, name, rows in images:
            expected[key][name] = sorted((NAMES[row[0]], *(round(value, 4) for value in row[1:])) for row in rows)
        if write in WITH_SETS:
            assert found.keys() == expected.keys()
            compare(found["train"], expected["train"])
            compare(found["val"], expected["val"])
        else:
            everything = {**found["train"], **found.get("val", {})}
            compare(everything, {**expected["train"], **expected["val"]})


def compare(found, expected):
    assert found.keys() == expected.keys()
    for name, rows in found.items():
        assert [row[0] for row in rows] == [row[0] for row in expected[name]], name
        for row, other in zip(rows, expected[name], strict=True):
            assert row[1:] == pytest.approx(other[1:], abs=2e-4)
