"""Check a data set: read all labels, decode all images, and collect the findings."""

import itertools
from typing import NamedTuple

from utils.check.decode import decode_images
from utils.check.duplicates import find_identical, find_similar
from utils.config import Config
from utils.dataset.index import label_notes, scan_dataset, shared_labels
from utils.dataset.statistics import ERROR, WARNING, DatasetStatistics, Finding, compute_statistics, find_mistakes
from utils.errors import InputError


class Report(NamedTuple):
    """The result of `check_dataset`."""

    sets: dict[str, DatasetStatistics]
    findings: list[Finding]

    def count(self, level: str) -> int:
        """Return the number of items in the findings of a level: ERROR or WARNING."""
        return sum(len(finding.items) for finding in self.findings if finding.level == level)


def check_dataset(config: Config, workers: int | None = None) -> Report:
    """Read and decode a whole data set.

    Args:
        workers: number of processes that decode; None: one per core.

    Raises:
        InputError: a list is missing or malformed, or the .data file has none.
    """
    sources = {"train": config.train, "val": config.val}
    scanned = {key: scan_dataset(source, config.classes) for key, source in sources.items() if source is not None}
    if not scanned:
        raise InputError(f"{config.path}: train, val: expected a list of images, got None for both")
    all_decoded = iter(decode_images([path for index, _ in scanned.values() for path in index.images], workers))
    decoded = {key: list(itertools.islice(all_decoded, len(index))) for key, (index, _) in scanned.items()}
    sets, findings = {}, []
    for key, (index, problems) in scanned.items():
        missing = [path for path, label in zip(index.images, index.label_files, strict=True) if label is None]
        sets[key] = compute_statistics(index, config)
        findings += [
            Finding(ERROR, f"{key}: unreadable images", [image.error for image in decoded[key] if image.error]),
            Finding(ERROR, f"{key}: damaged images", [image.damage for image in decoded[key] if image.damage]),
            Finding(ERROR, f"{key}: malformed labels", [str(problem) for problem in problems]),
            Finding(ERROR, f"{key}: label files of several images", shared_labels(index)),
            Finding(
                WARNING,
                f"{key}: images with an EXIF rotation; their labels must be for the rotated image, as it is displayed",
                [path for path, image in zip(index.images, decoded[key], strict=True) if image.rotated],
            ),
            Finding(WARNING, f"{key}: images without label file, used as background", missing),
        ]
    findings += find_identical(sets, decoded)
    if len(sets) > 1:
        findings.append(find_similar(sets, decoded))
    for key in sources:
        if key in sets:
            findings += find_mistakes(key, sets[key], config)
            findings.append(Finding(WARNING, f"{key}: label lines", label_notes(sets[key].index)))
        else:
            findings.append(Finding(WARNING, f"{key}: no list", [f"{config.path} has {key}=None"]))
    return Report(sets, [finding for finding in findings if finding.items])
