"""The files of an imported data set; their images and lists are tested in tests/tools/test_import_dataset.py."""

from utils.convert.write_darknet import format_labels


def test_lines_of_a_label_file():
    assert format_labels([(0, 0.5, 0.25, 1 / 3, 1.0), (12, 1e-6, 0.1, 2e-6, 0.2)]) == (
        "0 0.500000000 0.250000000 0.333333333 1.000000000\n12 0.000001000 0.100000000 0.000002000 0.200000000\n"
    )
    assert format_labels([]) == ""
