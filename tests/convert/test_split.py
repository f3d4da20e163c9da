"""Splitting a set: stratified by class, similar images together."""

from pathlib import Path

from utils.convert.locate import LabeledImage
from utils.convert.split import split_images


def test_a_split_depends_on_names_and_seed_only():
    images = [LabeledImage(Path(f"{n}.jpg"), Path(f"{n}.jpg"), []) for n in range(50)]
    train, val = split_images(images, 0.8, seed=3)
    assert (len(train), len(val)) == (40, 10)
    assert sorted(train + val) == sorted(images)
    assert split_images(images[::-1], 0.8, seed=3) == (train, val)
    assert split_images(images, 0.8, seed=4) != (train, val)
    assert [len(part) for part in split_images(images[:2], 0.99, seed=0)] == [1, 1]
    assert [len(part) for part in split_images(images[:1], 0.5, seed=0)] in ([0, 1], [1, 0])
