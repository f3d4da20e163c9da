"""The options of an import, checked before any file is read."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from model import SIZE_MULTIPLE
from utils.config import MODEL_NAME
from utils.dataset.labels import IMAGE_FOLDERS
from utils.errors import InputError

SETS = ("train", "val", "test")
SET_WORDS = {  # names of files and folders, and keys of data.yaml
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
FORMATS = ("coco", "voc", "yolo")  # modules of utils.convert
FORMAT_OF_OPTION = {  # of the fields of ImportOptions that only one format has
    "keep_crowds": "coco",
    **dict.fromkeys(("train_list", "val_list", "keep_difficult", "origin"), "voc"),
}
PLACES = ("link", "copy", "in-place", "auto")
DEFAULT_SPLIT = 0.8  # share of the training set if the source has no val set


def name_of(folder: Path) -> str:
    """Name a data set after its folder, with a valid model name."""
    return re.sub(r"[^\w.-]+", "-", Path(os.path.abspath(folder)).name).strip("-.")[:90] or "data"


def set_of(name: str) -> str | None:
    """Return the set that the name of a file or folder contains: "train", "val" or "test"; None for no or several sets.

    `train2017`, `images_train`, `obj_valid_data` and `Validation` contain one; `trainval` and `train_or_test` do not.
    """
    words = re.split(r"[^a-z]+", name.lower())
    found = {SET_WORDS[word] for word in words if word in SET_WORDS}
    return found.pop() if len(found) == 1 else None


class SetSource(NamedTuple):
    """Where one set of images comes from."""

    source: Path  # file or folder of the annotations
    images: Path | None  # folder of the images, None: search for it
    image_list: Path | None  # file with the names of the images to take, None: all

    @property
    def image_folders(self) -> list[Path]:
        """Folders to search for the images: the given one, or the annotations' folder and the usual ones near it."""
        if self.images:
            return [self.images]
        folder = self.source if self.source.is_dir() else self.source.parent
        parents = (folder, folder.parent)
        usual = [parent / name for parent in parents for name in IMAGE_FOLDERS]
        # COCO's own: annotations/instances_val2017.json and val2017/.
        own = [parent / part for parent in (*parents, *usual) for part in self.source.stem.split("_")]
        return list(dict.fromkeys([folder, *usual, folder.parent, *own]))


@dataclass(frozen=True)
class ImportOptions:
    """The options of tools/import_dataset.py.

    Raises:
        InputError: options that contradict each other, a wrong value, or an output folder that contains files.
    """

    source: Path
    output: Path
    format: str | None = None  # one of FORMATS, None: recognize it
    images: Path | None = None
    val: Path | None = None
    val_images: Path | None = None  # None: as for the training set
    train_list: Path | None = None
    val_list: Path | None = None
    split: float | None = None  # share of the training set, 1: no val set; None: DEFAULT_SPLIT if there is no val set
    keep_crowds: bool = False
    keep_difficult: bool = False
    origin: int | None = None  # coordinate of the first pixel, None: decide by the corners
    names: Path | None = None
    name: str | None = None  # None: name of the output folder
    place: str = "link"  # one of PLACES
    seed: int = 0
    width: int = 352
    height: int = 352

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", name_of(self.output))
        if not MODEL_NAME.fullmatch(self.name):
            expected = "at most 100 letters, digits, '.', '_' and '-'"
            raise InputError(f"--name: expected a name of {expected}, got {self.name!r}")
        if self.output.exists() and (not self.output.is_dir() or any(self.output.iterdir())):
            raise InputError(f"--output: expected a new or empty folder, got {self.output}, which has files")
        for key in ("width", "height"):
            if getattr(self, key) % SIZE_MULTIPLE:
                raise InputError(f"--{key}: expected a multiple of {SIZE_MULTIPLE}, got {getattr(self, key)}")
        if self.split is not None:
            if not 0 < self.split <= 1:
                raise InputError(f"--split: expected a number above 0 and at most 1, got {self.split:g}")
            if self.val or self.val_list:
                raise InputError("--split: cannot be combined with --val or --val-list, which name the val set")
        if self.val_images and not self.val:
            raise InputError("--val-images: needs --val, the annotations of the images")
        if self.val_list and not (self.val or self.train_list):
            raise InputError("--val-list: needs --train-list, or both sets would have the same images")

    def sets_of(self, source: Path) -> dict[str, SetSource]:
        """Return {"train": SetSource, and "val": SetSource if the options name one}.

        Args:
            source: of the annotations: `self.source`, a file or folder in it, or where it was extracted to.
        """
        sets = {"train": SetSource(source, self.images, self.train_list)}
        if self.val or self.val_list:
            sets["val"] = SetSource(self.val or source, self.val_images or self.images, self.val_list)
        return sets
