"""The data set that is always there: pictures of drawn shapes, made on first use into `data/shapes/`.

In darknet's format: `train.txt` and `val.txt` list the pictures relative to themselves, a `.txt` of labels lies beside
each. What is drawn is in `utils.dataset.shape_images`; `data/shapes.data` trains on it.
"""

import dataclasses
import shutil
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from utils.errors import InputError

FOLDER = Path(__file__).resolve().parents[2] / "data" / "shapes"
SEED = 0
COUNTS = {"train": 400, "val": 100}  # pictures
JPEG_QUALITY = 95


def prepare(config):
    """Make the shapes if a list of a .data file lies in the project's `data/shapes/` and is not there yet.

    To be called by whatever reads a Config's lists, right after `read_config`.

    Returns:
        Config: the same, or with the lists that now exist.
    Raises:
        InputError: from `ensure_shapes`.
    """
    lists = {}
    for split in COUNTS:
        path = getattr(config, split)
        if path is None or path.exists():
            continue
        for candidate in (path, config.path.parent / path):
            if candidate.resolve() == _list_path(FOLDER, split):
                lists[split] = candidate
    if not lists:
        return config
    ensure_shapes(FOLDER)
    return dataclasses.replace(config, **lists)


def ensure_shapes(folder=FOLDER):
    """Make the shapes in `folder` unless they are there.

    Raises:
        InputError: the folder is there without its lists, or cannot be written.
    """
    folder = Path(folder)
    if not folder.exists():
        make_shapes(folder)  # or another process has made it meanwhile, which is as good
    missing = [path.name for path in (_list_path(folder, split) for split in COUNTS) if not path.exists()]
    if missing:
        raise InputError(f"{folder}: {' and '.join(missing)} missing; remove this folder and it is drawn again")


def make_shapes(folder, seed=SEED, train=COUNTS["train"], val=COUNTS["val"]):
    """Draw the data set: picture i of a split is the same for any number of pictures.

    It is drawn into a folder beside and renamed when complete: an interruption leaves nothing half made, and of two
    processes that make the same folder at once one wins and the other's work is dropped.

    Args:
        folder: where to; must not exist yet.
        seed: 0 or more.
        train, val: how many pictures.
    Returns:
        bool: whether `folder` is this call's work; False when another process was first.
    Raises:
        InputError: the folder exists or cannot be made.
    """
    folder = Path(folder)
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it or choose another folder")
    # The name is a hidden one so that nobody takes it for a data set.
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.mkdir(parents=True)
        print(f"drawing {train + val} pictures of shapes into {folder} (seed {seed})", file=sys.stderr)
        for number, (split, count) in enumerate((("train", train), ("val", val))):
            _write_split(temporary, split, count, (seed, number))
        return _rename(temporary, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there: {error.strerror}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _list_path(folder, split):
    return folder / f"{split}.txt"


def _write_split(folder, split, count, seeds):
    from tqdm import tqdm

    (folder / split).mkdir()
    names = [f"{split}/{number:05}.jpg" for number in range(count)]
    # Threads, because OpenCV and NumPy release the interpreter while they draw.
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(_write_picture, folder / name, (*seeds, number)) for number, name in enumerate(names)]
        try:
            for job in tqdm(jobs, desc=split, unit=" pictures", disable=None):
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _list_path(folder, split).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _write_picture(path, seeds):
    import cv2
    import numpy as np

    from utils.dataset.shape_images import draw_picture

    picture = draw_picture(np.random.default_rng(seeds))
    # Not cv2.imwrite: it cannot write to every path that Python can, and it does not say why it failed.
    path.write_bytes(cv2.imencode(".jpg", picture.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    lines = [f"{int(kind)} " + " ".join(f"{value:.6f}" for value in box) for kind, *box in picture.labels]
    path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _rename(source, target):
    """Rename a folder; False when `target` has come into being meanwhile."""
    try:
        source.rename(target)
    except OSError:
        if target.exists():
            return False
        raise
    return True
