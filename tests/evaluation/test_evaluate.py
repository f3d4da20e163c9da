"""utils.evaluation.evaluate: files that are not images."""

import dataclasses

import pytest
import torch

from tests.helpers.dataset_files import load_in_order, write_data, write_image
from tests.helpers.measured import detections_of
from utils.config import read_config
from utils.dataset.dataset import DetectionDataset
from utils.dataset.index import load_index
from utils.evaluation.detect import collect_detections
from utils.evaluation.evaluate import compute_metrics

FRAME = (96, 64)


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_objects_in_a_file_that_is_not_an_image_are_false_negatives(tmp_path, capsys, content):
    # Training replaces such files by black images and continues.
    for index in range(5):
        write_image(tmp_path / f"{index}.png", 60 + 10 * index, 50, seed=index)
        (tmp_path / f"{index}.txt").write_text(f"{index % 2} 0.5 0.5 0.4 0.4\n")
    (tmp_path / "val.txt").write_text("".join(f"{index}.png\n" for index in range(5)))
    config = read_config(write_data(tmp_path, train=None, val="val.txt"))
    config = dataclasses.replace(config, width=FRAME[0], height=FRAME[1])
    complete = load_index(config.val, config.classes, cache=False)
    (tmp_path / "2.png").write_bytes(content)
    damaged = load_index(config.val, config.classes, cache=False)
    assert damaged.sizes[2].tolist() == [0, 0]
    loader = load_in_order(DetectionDataset(damaged, *FRAME), 2)
    assert len(collect_detections(lambda batch: [torch.empty(0, 6)] * len(batch[0]), loader, 5)) == 5
    assert "2.png" in capsys.readouterr().err

    detections = [detections_of((20, 13, 60, 50, 0.9, index % 2)) for index in range(5)]
    missed = [*detections[:2], detections_of(), *detections[3:]]
    expected = compute_metrics(missed, complete, config)
    evaluation = compute_metrics(missed, damaged, config)
    assert evaluation.original == expected.original
    assert evaluation.coco.overall.labels == 5
    assert evaluation.coco.summary["AP50"] == expected.coco.summary["AP50"] < 1
    # Detections in such a file do not fail.
    assert len(compute_metrics(detections, damaged, config).results) == 5
