"""Items and batches of a data set: pixels, labels, augmentation, corrupt images, pixel cache, workers."""

import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from tests.helpers.dataset_files import load_in_order, write_image
from utils.dataset import pixel_cache
from utils.dataset.augment import AUGMENTATIONS, Change
from utils.dataset.dataset import DetectionDataset, collate, make_loader
from utils.dataset.images import read_resized, resize_image
from utils.dataset.index import load_index
from utils.dataset.pixel_cache import CACHE_KINDS, available_memory, pixels_path
from utils.errors import InputError, RunError

WIDTH, HEIGHT = 64, 32


@pytest.fixture
def source(tmp_path):
    """A list of seven images with 0, 1, … boxes."""
    for position in range(7):
        path = tmp_path / "images" / f"{position} ä.png"
        write_image(path, width=50 + 10 * position, seed=position)
        lines = [f"{position} 0.5 0.5 0.{box + 1} 0.5\n" for box in range(position)]
        path.with_suffix(".txt").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "train.txt").write_text(
        "".join(f"images/{position} ä.png\n" for position in range(7)), encoding="utf-8"
    )
    return tmp_path / "train.txt"


@pytest.fixture
def index(source):
    return load_index(source, classes=7)


def corrupt(index, *positions):
    """Truncate images after their headers, which the index reads."""
    for position in positions:
        path = Path(index.images[position])
        path.write_bytes(path.read_bytes()[:200])
    return load_index(index.source)


def batches_of(loader):
    return [(images.clone(), targets.clone()) for images, targets in loader]


def assert_same(one, other):
    assert len(one) == len(other)
    for (images, targets), (other_images, other_targets) in zip(one, other, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(targets, other_targets)


# Items and batches


def test_item(index):
    image, labels = DetectionDataset(index, WIDTH, HEIGHT)[3]
    assert (image.shape, image.dtype) == ((3, HEIGHT, WIDTH), torch.uint8)
    expected = cv2.resize(cv2.imdecode(np.fromfile(index.images[3], np.uint8), 1), (WIDTH, HEIGHT))
    assert (image.permute(1, 2, 0).numpy() == expected).all()
    assert (labels.shape, labels.dtype) == ((3, 5), torch.float32)
    assert (labels.numpy() == index.labels[3]).all()
    assert DetectionDataset(index, WIDTH, HEIGHT)[0][1].shape == (0, 5)


def test_pixels_equal_the_golden_inputs_of_the_released_weights(shared):
    index = load_index(shared / "coco-val128" / "val.txt", classes=80, cache=False)
    positions = {Path(path).stem: position for position, path in enumerate(index.images)}
    dataset = DetectionDataset(index, 352, 352)
    with np.load(shared / "reference" / "outputs.npz") as golden:
        inputs = {name.removesuffix("/input"): golden[name] for name in golden if name.endswith("/input")}
    assert len(inputs) == 4
    for name, pixels in inputs.items():
        assert (dataset[positions[name]][0].permute(1, 2, 0).numpy() == pixels).all()


def test_resize_changes_the_aspect_ratio():
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 200
    small = resize_image(image, 4, 20)
    assert small.shape == (20, 4, 3)
    assert small[0, :, 0].tolist() == [0, 0, 200, 200]


def test_collate(index):
    dataset = DetectionDataset(index, WIDTH, HEIGHT)
    images, targets = collate([dataset[position] for position in (2, 0, 1)])
    assert (images.shape, images.dtype) == ((3, 3, HEIGHT, WIDTH), torch.uint8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[2], dataset[1][0])
    assert targets[:, 0].tolist() == [0, 0, 2]
    assert targets[:, 1].tolist() == [2, 2, 1]
    assert (targets[:2, 2:].numpy() == index.labels[2][:, 1:]).all()
    images, targets = collate([dataset[0]])
    assert (targets.shape, targets.dtype) == ((0, 6), torch.float32)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_reads_in_order(index, workers):
    dataset = DetectionDataset(index, WIDTH, HEIGHT)
    loader = load_in_order(dataset, 3, workers)
    assert len(loader) == 3
    for _ in range(2):
        assert_same(batches_of(loader), [collate([dataset[n] for n in part]) for part in ((0, 1, 2), (3, 4, 5), (6,))])


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_follows_a_batch_sampler(index, workers):
    dataset = DetectionDataset(index, WIDTH, HEIGHT)
    parts = [[5, 1], [0], [3, 3, 2]]
    assert_same(batches_of(make_loader(dataset, parts, workers)), [collate([dataset[n] for n in p]) for p in parts])


# Augmentation


def add_noise(rng):
    """Augmentation that changes every image."""
    return Change(mirrored=True, factor=rng.uniform(0.7, 0.9), brightness=rng.uniform(10, 90))


def test_augmentation_depends_only_on_seed_epoch_and_image(index):
    def read_epochs(seed, workers, epochs):
        dataset = DetectionDataset(index, WIDTH, HEIGHT, augment=add_noise, seed=seed)
        loader = load_in_order(dataset, 2, workers)
        found = []
        for epoch in epochs:
            dataset.set_epoch(epoch)
            found.append(batches_of(loader))
        return found

    first = read_epochs(0, 0, [0, 1, 2])
    # Persistent workers get each new epoch.
    for one, other in zip(first, read_epochs(0, 2, [0, 1, 2]), strict=True):
        assert_same(one, other)
    assert_same(first[2], read_epochs(0, 0, [2])[0])
    for other in (first[1], read_epochs(1, 0, [0])[0]):
        assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(first[0], other, strict=True))
    images = torch.cat([images for images, _ in first[0]])
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_can_be_sent_to_other_processes(index, name):
    """Windows, macOS and Python 3.14 do not fork: a worker gets a pickle of the dataset."""
    dataset = DetectionDataset(index, WIDTH, HEIGHT, augment=AUGMENTATIONS[name])
    assert_same([collate([dataset[3]])], [collate([pickle.loads(pickle.dumps(dataset))[3]])])


@pytest.mark.slow
def test_workers_that_are_not_forked_read_the_same(index):
    dataset = DetectionDataset(index, WIDTH, HEIGHT, augment=AUGMENTATIONS["flip_zoom_colour"])
    here, there = load_in_order(dataset, 4), load_in_order(dataset, 4, workers=1)
    there.multiprocessing_context = "spawn"
    for epoch in range(2):
        dataset.set_epoch(epoch)
        assert_same(batches_of(there), batches_of(here))


@pytest.mark.parametrize("workers", [0, 2])
def test_ending_replaces_the_augmentation(index, workers):
    def blacken(_):
        return Change(contrast=0)

    dataset = DetectionDataset(index, WIDTH, HEIGHT, augment=add_noise, ending=(2, blacken))
    loader = load_in_order(dataset, 2, workers)
    dark = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        dark.append(all(not images.any() for images, _ in batches_of(loader)))
    assert dark == [False, False, True, True]


@pytest.mark.parametrize("cache", [None, *CACHE_KINDS])
def test_augmentation_does_not_change_the_data(index, cache):
    labels = [array.copy() for array in index.labels]
    dataset = DetectionDataset(index, WIDTH, HEIGHT, cache=cache, augment=add_noise)
    first = [dataset[position] for position in range(7)]
    for position, (image, boxes) in enumerate(first):
        assert torch.equal(dataset[position][0], image)
        assert torch.equal(dataset[position][1], boxes)
        assert (index.labels[position] == labels[position]).all()


# Corrupt images


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [None, *CACHE_KINDS])
def test_corrupt_image_is_replaced_and_reported_once(index, capfd, workers, cache):
    index = corrupt(index, 4, 6)
    dataset = DetectionDataset(index, WIDTH, HEIGHT, cache=cache, replace_corrupt=True)
    loader = load_in_order(dataset, 7, workers)
    for _ in range(3):
        ((images, targets),) = batches_of(loader)
        assert torch.equal(images[4], images[5])
        assert torch.equal(images[6], images[0])
        assert torch.bincount(targets[:, 0].long(), minlength=7).tolist() == [0, 1, 2, 3, 5, 5, 0]
    reported = re.findall(r"^warning: (.*): expected an image, .*; skipped$", capfd.readouterr().err, re.MULTILINE)
    assert sorted(reported) == [index.images[4], index.images[6]]


def test_corrupt_image_is_blank(index, capfd):
    index = corrupt(index, 4)
    dataset = DetectionDataset(index, WIDTH, HEIGHT)
    for _ in range(2):
        image, labels = dataset[4]
        assert image.shape == (3, HEIGHT, WIDTH)
        assert not image.any()
        assert len(labels) == 4
    assert len(re.findall(r"^warning: .*; replaced by a black image$", capfd.readouterr().err, re.MULTILINE)) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_only_corrupt_images_raise_an_error_of_one_line(index, workers):
    index = corrupt(index, *range(7))
    dataset = DetectionDataset(index, WIDTH, HEIGHT, replace_corrupt=True)
    with pytest.raises(InputError) as raised:
        batches_of(load_in_order(dataset, 2, workers))
    assert str(raised.value) == f"{index.source}: none of its 7 images can be read"


def test_image_that_was_removed(index, capsys):
    os.remove(index.images[2])
    assert not DetectionDataset(index, WIDTH, HEIGHT)[2][0].any()
    assert f"{index.images[2]}: cannot read: No such file or directory" in capsys.readouterr().err


# Pixel cache


def count_reads(monkeypatch):
    reads = []

    def read(path, width, height):
        reads.append(path)
        return read_resized(path, width, height)

    monkeypatch.setattr("utils.dataset.dataset.read_resized", read)
    return reads


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", CACHE_KINDS)
def test_cached_pixels_are_the_same(index, cache, workers):
    plain = batches_of(load_in_order(DetectionDataset(index, WIDTH, HEIGHT), 3))
    dataset = DetectionDataset(index, WIDTH, HEIGHT, cache=cache)
    assert dataset.cache.images.shape == (7, HEIGHT, WIDTH, 3)
    assert dataset.cache.images.dtype == np.uint8
    assert_same(plain, batches_of(load_in_order(dataset, 3, workers)))


@pytest.mark.parametrize("cache", CACHE_KINDS)
def test_cached_pixels_of_photographs_are_the_same(shared, tmp_path, cache):
    lines = (shared / "coco-val128" / "val.txt").read_text(encoding="utf-8").split()[:40]
    (tmp_path / "val.txt").write_text("\n".join(str(shared / "coco-val128" / line) for line in lines))
    index = load_index(tmp_path / "val.txt", classes=80)
    plain = batches_of(load_in_order(DetectionDataset(index, 352, 352), 16))
    assert_same(plain, batches_of(load_in_order(DetectionDataset(index, 352, 352, cache=cache), 16)))


@pytest.mark.parametrize("cache", CACHE_KINDS)
def test_each_image_is_read_once(index, cache, monkeypatch):
    reads = count_reads(monkeypatch)
    dataset = DetectionDataset(index, WIDTH, HEIGHT, cache=cache)
    for _ in range(2):
        batches_of(load_in_order(dataset, 3))
    assert sorted(reads) == sorted(index.images)


def test_black_image_in_the_cache(index):
    cv2.imwrite(os.fspath(index.source.parent / "images" / "black.png"), np.zeros((9, 9, 3), np.uint8))
    index.source.write_text("images/black.png\n", encoding="utf-8")
    dataset = DetectionDataset(load_index(index.source), WIDTH, HEIGHT, cache="ram")
    assert not dataset[0][0].any()


def test_file_is_reused_until_an_image_changes(source, index, monkeypatch):
    DetectionDataset(index, WIDTH, HEIGHT, cache="disk")
    path = pixels_path(index, WIDTH, HEIGHT)
    assert path.parent == source.parent
    assert path.name.startswith("train.txt.64x32-")
    size = path.stat().st_size
    assert size == pytest.approx(7 * WIDTH * HEIGHT * 3, abs=200)

    # The cache does not contain labels.
    Path(index.images[1]).with_suffix(".txt").write_text("3 .5 .5 .1 .1\n", encoding="utf-8")
    reads = count_reads(monkeypatch)
    edited = load_index(source)
    assert DetectionDataset(edited, WIDTH, HEIGHT, cache="disk")[1][1][0, 0] == 3
    assert not reads

    # Another size has another file.
    DetectionDataset(edited, HEIGHT, HEIGHT, cache="disk")
    assert len(list(source.parent.glob("*.npy"))) == 2

    write_image(Path(index.images[2]), seed=99)
    changed = load_index(source)
    dataset = DetectionDataset(changed, WIDTH, HEIGHT, cache="disk")
    assert (dataset.load(2)[0] == read_resized(index.images[2], WIDTH, HEIGHT)).all()
    # The outdated file is removed.
    assert not path.exists()
    assert len(list(source.parent.glob("*.npy"))) == 2


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"", lambda content: content[:50], lambda content: content[:-1], lambda content: b"x" + content],
)
def test_damaged_file_is_written_again(index, damage):
    plain = DetectionDataset(index, WIDTH, HEIGHT)
    DetectionDataset(index, WIDTH, HEIGHT, cache="disk")
    path = pixels_path(index, WIDTH, HEIGHT)
    path.write_bytes(damage(path.read_bytes()))
    again = DetectionDataset(index, WIDTH, HEIGHT, cache="disk")
    assert all(torch.equal(plain[position][0], again[position][0]) for position in range(7))


def test_unfinished_files_of_killed_processes_are_removed(index):
    path = pixels_path(index, WIDTH, HEIGHT)
    old, young = (path.with_name(f".{path.stem[:64]}-{name}.npy") for name in ("abcd_123", "abcd_456"))
    other = path.with_name(".mine-abcd_123.npy")
    for left in (old, young, other):
        left.touch()
    for left in (old, other):
        os.utime(left, (0, 0))
    DetectionDataset(index, WIDTH, HEIGHT, cache="disk")
    assert not old.exists()
    assert young.exists()  # another process may be writing it
    assert other.exists()


def test_images_that_do_not_fit(index, monkeypatch):
    monkeypatch.setattr(pixel_cache, "available_memory", lambda: 20_000)
    with pytest.raises(InputError) as raised:
        DetectionDataset(index, WIDTH, HEIGHT, cache="ram")
    assert str(raised.value).startswith("--cache: 7 images at 64x32 need 0.0 GiB")
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=20_000))
    with pytest.raises(InputError, match=r"^--cache: 7 images at 64x32 need .* are free in .*; free some"):
        DetectionDataset(index, WIDTH, HEIGHT, cache="disk")
    assert not list(index.source.parent.glob("*.npy"))


def test_full_disk(index, monkeypatch):
    def load(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("utils.dataset.pixel_cache.decode_all", load)
    with pytest.raises(RunError, match=r"train\.txt\.64x32-.*\.npy: cannot write: No space left on device"):
        DetectionDataset(index, WIDTH, HEIGHT, cache="disk")
    assert not list(index.source.parent.glob("*.npy"))
    assert not list(index.source.parent.glob(".train*"))


def test_glob_cannot_be_cached_on_disk(index):
    index = load_index(index.source.parent / "images" / "*.png")
    assert DetectionDataset(index, WIDTH, HEIGHT, cache="ram").cache.in_memory
    with pytest.raises(InputError, match=r"\*\.png: --cache disk needs a list file or a folder"):
        DetectionDataset(index, WIDTH, HEIGHT, cache="disk")


def test_available_memory():
    free = available_memory()
    assert free is None or 10**6 < free < 10**14
