"""Names of the images in the output, so that each image has its own label file."""

import os
from pathlib import PurePath

from utils.convert.annotations import Problems
from utils.convert.locate import LabeledImage
from utils.dataset.labels import label_candidates


def separate_names(
    sets: dict[str, list[LabeledImage]], place: str, problems: Problems
) -> dict[str, list[LabeledImage]]:
    """Give each image its own label file.

    An image with the label file of an earlier image, as a.png after a.jpg, is renamed. Images that stay in place are
    not renamed; there the second image is dropped.

    Args:
        sets: images of each set; with `place` "link" or "copy", each set has its own folder.
        problems: a line per renamed or dropped image is added to it.
    """
    if place == "in-place":
        return _drop_second(sets, problems)
    return {key: _rename_second(images, problems) for key, images in sets.items()}


def _drop_second(sets: dict[str, list[LabeledImage]], problems: Problems) -> dict[str, list[LabeledImage]]:
    first, kept = {}, {}  # label file: path of its image
    for key, images in sets.items():
        kept[key] = []
        for image in images:
            label_file = label_candidates(os.path.abspath(image.path))[-1]
            if first.setdefault(label_file, image.path) == image.path:
                kept[key].append(image)
            else:
                problems.dropped.append(
                    f"{image.path}: its label file is also that of {first[label_file]}; --place copy keeps both images"
                )
    return kept


def _rename_second(images: list[LabeledImage], problems: Problems) -> list[LabeledImage]:
    own = {_output_key(image.name) for image in images}
    first, renamed = {}, []  # label file: path of its image
    for image in images:
        name, count = image.name, 1
        while (key := _output_key(name)) in first or (count > 1 and key in own):
            count += 1
            name = image.name.with_stem(f"{image.name.stem}-{count}")
        if count > 1:
            other = first[_output_key(image.name)]
            problems.changed.append(f"{image.path}: is {name} in the output, because {other} has the same label file")
        first[key] = image.path
        renamed.append(image._replace(name=name))
    return renamed


def _output_key(name: PurePath) -> str:
    """Return the label file of an image in the output, in lower case, because some file systems ignore case."""
    return label_candidates(os.path.join("images", name))[-1].casefold()
