"""Small data sets on disk for tests, and their batches."""

import numpy as np
from PIL import Image

from utils.dataset.dataset import make_loader
from utils.dataset.sampler import evaluation_batches


def write_image(path, width=64, height=48, seed=0):
    """Write an image of colored patches, which depend on the seed; the suffix selects the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC).save(path)


def write_data(folder, names=("cat", "dog"), train="train.txt", val=None, anchors="10,13, 16,30, 33,23, 30,61, 62,45"):
    """Write a .data file and its .names file, with train and val relative to `folder`; return the .data file."""
    (folder / "small.names").write_text("\n".join(names) + "\n", encoding="utf-8")
    path = folder / "small.data"
    lines = {
        **{"model_name": "small", "epochs": 2, "steps": None, "batch_size": 2, "subdivisions": 1},
        **{"learning_rate": 0.001, "classes": len(names), "width": 96, "height": 64, "anchor_num": 3},
        **{"anchors": anchors + ", 59,119", "train": train, "val": val, "names": folder / "small.names"},
    }
    for key in ("train", "val"):
        if lines[key] is not None:
            lines[key] = folder / lines[key]
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
    return path


def load_in_order(dataset, batch_size, workers=0):
    """Create a loader of all images of a DetectionDataset, in order."""
    return make_loader(dataset, evaluation_batches(len(dataset), batch_size), workers)
