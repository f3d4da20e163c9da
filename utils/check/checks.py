"""What a data set holds, and what is wrong or doubtful in it."""

import itertools
import os
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from utils.check.image_check import decode_images, find_look_alikes
from utils.dataset.index import label_notes, scan_dataset
from utils.dataset.lists import list_images
from utils.dataset.statistics import ERROR, WARNING, DatasetStatistics, Finding, compute_statistics, find_mistakes
from utils.errors import InputError

# The network's first two layers halve the image twice, so a side below this is less than a pixel of what follows.


class Report(NamedTuple):
    """All that was found."""

    sets: dict[str, DatasetStatistics]
    findings: list[Finding]

    @property
    def errors(self):
        return sum(len(finding.items) for finding in self.findings if finding.level == ERROR)

    @property
    def warnings(self):
        return sum(len(finding.items) for finding in self.findings if finding.level == WARNING)


def check_dataset(config, workers=None):
    """Read and decode all of a data set.

    Args:
        config: Config of the .data file.
        workers: processes that decode, None is one a core.
    Returns:
        Report.
    Raises:
        InputError: a list that is missing or malformed, or no list at all.
    """
    sources = {key: getattr(config, key) for key in ("train", "val")}
    images = {key: list_images(source) for key, source in sources.items() if source is not None}
    if not images:
        raise InputError(f"{config.path}: train, val: expected a list of images, got None for both")
    sets, findings = {}, []
    all_decoded = iter(decode_images([path for paths in images.values() for path in paths], workers))
    decoded = {key: list(itertools.islice(all_decoded, len(paths))) for key, paths in images.items()}
    for key, paths in images.items():
        index, problems = scan_dataset(sources[key], config.classes)
        missing = [path for path, label in zip(paths, index.label_files, strict=True) if label is None]
        sets[key] = compute_statistics(index, config)
        findings += [
            Finding(ERROR, f"{key}: unreadable images", [item.problem for item in decoded[key] if item.problem]),
            Finding(ERROR, f"{key}: damaged images", [item.complaint for item in decoded[key] if item.complaint]),
            Finding(ERROR, f"{key}: malformed labels", [str(problem) for problem in problems]),
            Finding(WARNING, f"{key}: images without label file, taken as without objects", list(map(str, missing))),
        ]
    findings += find_same_images(sets, decoded)
    if len(sets) > 1:
        findings.append(find_copies(sets, decoded))
    for key in sources:
        if key in sets:
            findings += find_mistakes(key, sets[key], config)
            findings.append(Finding(WARNING, f"{key}: label lines", label_notes(sets[key].index)))
        else:
            findings.append(Finding(WARNING, f"{key}: no list", [f"{config.path} has {key}=None"]))
    return Report(sets, [finding for finding in findings if finding.items])


def find_same_images(sets, decoded):
    """Images whose pixels are equal.

    Args:
        sets: {set: DatasetStatistics}.
        decoded: {set: list of Decoded}, in the order of the set's images.
    Returns:
        list of Finding: an error for pictures in both sets, a warning for pictures twice in one.
    """
    places = defaultdict(lambda: defaultdict(list))  # digest → set → positions
    for key, items in decoded.items():
        for position, item in enumerate(items):
            if item.digest:
                places[item.digest][key].append(position)

    repeated = {key: [] for key in sets}
    leaks = []
    for found in places.values():
        for key in sets:
            if len(found[key]) > 1:
                repeated[key].append(_name_same(sets, [(key, position) for position in found[key]]))
        if found["train"] and found["val"]:
            leaks += [_name_same(sets, [("val", position), ("train", found["train"][0])]) for position in found["val"]]
    return [
        Finding(ERROR, "leakage: pictures in val that are in train", leaks),
        *(Finding(WARNING, f"{key}: same picture more than once", lines) for key, lines in repeated.items()),
    ]


def _name_same(sets, places):
    """Line that names equal pictures, given as (set, position), and says whether their labels are equal too."""
    paths = [os.path.abspath(sets[key].index.images[position]) for key, position in places]
    if len(set(paths)) == 1:
        keys = sorted({key for key, _ in places})
        how = f"is listed {len(paths)} times" if len(keys) == 1 else "is in both lists"
        return f"{sets[places[0][0]].index.images[places[0][1]]} {how}"
    labels = [sets[key].index.labels[position] for key, position in places]
    line = " = ".join(str(sets[key].index.images[position]) for key, position in places)
    if all(_same_labels(labels[0], other) for other in labels[1:]):
        return line
    # Worse than a copy: the labels of one of them are wrong, or those of both.
    return f"{line} (their labels differ, boxes: {', '.join(str(len(rows)) for rows in labels)})"


def find_copies(sets, decoded):
    """Finding of pictures in val that look like one in train, maybe turned or mirrored, but are not equal to one."""
    in_train = {item.digest for item in decoded["train"] if item.digest}
    positions = [number for number, item in enumerate(decoded["val"]) if item.digest and item.digest not in in_train]
    thumbnails = [np.stack([item.thumbnail for item in decoded[key]]) for key in ("val", "train")]
    lines = []
    for copy in find_look_alikes(thumbnails[0][positions], thumbnails[1]):
        name = sets["val"].index.images[positions[copy.first]]
        how = [f"turned by {copy.turned}°"] * (copy.turned > 0) + ["mirrored"] * copy.mirrored or ["as it is"]
        lines.append(f"{name} ≈ {sets['train'].index.images[copy.second]} ({' and '.join(how)})")
    return Finding(WARNING, "leakage: pictures in val that look like one in train", lines)


def _same_labels(first, second):
    # Rows in order of their values: the order of lines in a label file means nothing.
    return np.array_equal(first[np.lexsort(first.T)], second[np.lexsort(second.T)])
