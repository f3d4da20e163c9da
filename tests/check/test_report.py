"""The report of the checker as text and as JSON."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.checked_sets import check, write_good_sets
from utils.check.report import ASPECT_EDGES, SIZE_EDGES, as_dictionary, as_text, histograms
from utils.config import read_config


@given(st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(0.01, 1e4)), max_size=50))
def test_histograms_count_every_box(sizes):
    by_size, by_aspect = histograms(np.array(sizes).reshape(-1, 2))
    assert by_size.sum() == by_aspect.sum() == len(sizes)
    assert (len(by_size), len(by_aspect)) == (len(SIZE_EDGES) - 1, len(ASPECT_EDGES) - 1)


def test_histogram_bins():
    by_size, by_aspect = histograms(np.array([[3, 3], [4, 4], [300, 300], [10, 41], [41, 10], [10, 10.1]]))
    assert by_size.tolist() == [1, 1, 1, 2, 0, 0, 0, 1]
    assert by_aspect.tolist() == [1, 0, 0, 4, 0, 0, 1]


def test_text_and_json_agree(tmp_path):
    data = write_good_sets(tmp_path)
    config = read_config(data)
    report = check(data)
    content = as_dictionary(report, config)
    lines = [line.split() for line in as_text(report, config).splitlines()]
    train, val = content["sets"]["train"], content["sets"]["val"]
    assert ["images", str(train["images"]), str(val["images"])] in lines
    assert ["boxes", str(train["boxes"]), str(val["boxes"])] in lines
    assert ["0", "cat", "12", "50.0%", "12", "4", "50.0%", "4"] in lines
    assert json.loads(json.dumps(content))["findings"] == [finding._asdict() for finding in report.findings]
