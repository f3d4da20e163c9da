"""Copies of images, rotated, mirrored or re-encoded."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from utils.check.decode import decode_images
from utils.check.duplicates import find_copies
from utils.dataset.similar import make_thumbnail


def thumbnails(images):
    return np.stack([make_thumbnail(np.ascontiguousarray(image)) for image in images])


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), rotation=st.sampled_from([0, 90, 180, 270]), mirrored=st.booleans())
def test_rotated_and_mirrored_copies_are_found(seed, rotation, mirrored):
    random = np.random.default_rng(seed)
    images = [np.kron(random.integers(0, 256, (12, 16, 3), np.uint8), np.ones((8, 8, 1), np.uint8)) for _ in range(4)]
    copy = np.rot90(images[2], rotation // 90)
    copy = copy[:, ::-1] if mirrored else copy
    (found,) = find_copies(thumbnails([images[2]]), thumbnails([images[0], copy, images[1]]))
    assert found == (0, 1, rotation, mirrored)
    assert find_copies(thumbnails([images[3]]), thumbnails(images[:3])) == []


def test_flat_images_are_not_copies_of_each_other():
    flat = thumbnails([np.full((20, 30, 3), level, np.uint8) for level in (0, 90, 255)])
    assert not flat.any()
    assert find_copies(flat, flat) == []
    assert find_copies(flat, flat[:0]) == []


def test_re_encoded_photos_are_found_and_others_are_not(shared, tmp_path):
    paths = sorted((shared / "coco-val128/images").glob("*.jpg"))[:40]
    copies = []
    for path in paths[:10]:
        image = Image.open(path).convert("RGB")
        small = image.resize((image.width // 2, image.height // 2))
        small.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / path.name, quality=60)
        copies.append(tmp_path / path.name)
    first, second = (np.stack([image.thumbnail for image in decode_images(part, 1)]) for part in (copies, paths))
    assert find_copies(first, second) == [(index, index, 0, True) for index in range(10)]
