"""Warnings about likely mistakes in a data set."""

import numpy as np
import pytest

from tests.helpers.dataset_files import write_data, write_image
from utils.anchors import box_sizes, cluster, replace_anchors
from utils.config import read_config
from utils.dataset.index import open_list
from utils.dataset.statistics import warn_about_dataset


@pytest.fixture
def data(tmp_path):
    """Boxes of so many sizes that no six anchors match all of them; the given anchors match fewer than possible."""
    rng = np.random.default_rng(0)
    names = []
    for index in range(40):
        write_image(tmp_path / f"{index}.png", seed=index)
        sides = np.exp(rng.uniform(np.log(0.03), np.log(0.99), (12, 2)))
        lines = [f"{index % 2} 0.5 0.5 {w:.6f} {h:.6f}" for w, h in sides]
        (tmp_path / f"{index}.txt").write_text("\n".join(lines), encoding="utf-8")
        names.append(f"{index}.png")
    (tmp_path / "train.txt").write_text("\n".join(names), encoding="utf-8")
    return write_data(tmp_path, train="train.txt", val="train.txt", anchors="4,4, 5,5, 6,6, 7,7, 8,8")


def warnings_of(data, key, capsys):
    config = read_config(data)
    index = open_list(config, key)
    capsys.readouterr()
    warn_about_dataset(key, index, config)
    return [line for line in capsys.readouterr().err.splitlines() if "anchor" in line]


def test_genanchors_is_advised_only_if_it_helps(data, capsys):
    (warning,) = warnings_of(data, "train", capsys)
    assert "genanchors.py" in warning
    (warning,) = warnings_of(data, "val", capsys)  # the anchors are those of the train list
    assert "genanchors.py" not in warning
    config = read_config(data)
    sizes = box_sizes(open_list(config, "train").labels, config.width, config.height)
    replace_anchors(data, cluster(sizes, 6))
    assert not any("genanchors.py" in warning for warning in warnings_of(data, "train", capsys))


def test_too_few_boxes_for_other_anchors(tmp_path, capsys):
    write_image(tmp_path / "0.png")
    (tmp_path / "0.txt").write_text("0 0.5 0.5 0.9 0.1\n", encoding="utf-8")
    (tmp_path / "train.txt").write_text("0.png\n", encoding="utf-8")
    (warning,) = warnings_of(write_data(tmp_path, anchors="1,1, 1,1, 1,1, 1,1, 1,1"), "train", capsys)
    assert "genanchors.py" not in warning


def test_no_boxes(tmp_path, capsys, recwarn):
    write_image(tmp_path / "0.png")
    (tmp_path / "train.txt").write_text("0.png\n", encoding="utf-8")
    assert not warnings_of(write_data(tmp_path), "train", capsys)
    assert not recwarn.list
