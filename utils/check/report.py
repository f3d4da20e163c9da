"""The report on a data set, as text for a terminal and as a dictionary for JSON."""

from collections.abc import Iterator

import numpy as np

from utils.check.checks import Report
from utils.config import Config
from utils.dataset.statistics import ERROR, MIN_VISIBLE, WARNING, DatasetStatistics
from utils.text import align_columns, printable

SHOWN = 10  # items per finding in the text; the JSON has all of them
BAR_LENGTH = 40  # characters of the longest bar of a histogram

# Bins of a histogram, with their names in the report. Boxes are measured in pixels at input size.
SIZE_EDGES = (0, 4, 8, 16, 32, 64, 128, 256, np.inf)  # square root of the area
SIZE_NAMES = ("below 4", "4 to 8", "8 to 16", "16 to 32", "32 to 64", "64 to 128", "128 to 256", "256 and more")
ASPECT_EDGES = (0, 1 / 4, 1 / 2, 4 / 5, 5 / 4, 2, 4, np.inf)  # width over height
ASPECT_NAMES = ("below 1:4", "1:4 to 1:2", "1:2 to 4:5", "about 1:1", "5:4 to 2:1", "2:1 to 4:1", "above 4:1")


def as_dictionary(report: Report, config: Config) -> dict:
    """Return the whole report as JSON types."""
    return {
        "data": str(config.path),
        "width": config.width,
        "height": config.height,
        "anchors": config.anchors,
        "errors": report.count(ERROR),
        "warnings": report.count(WARNING),
        "sets": {key: _set_dictionary(facts, config) for key, facts in report.sets.items()},
        "findings": [finding._asdict() for finding in report.findings],
    }


def _set_dictionary(facts: DatasetStatistics, config: Config) -> dict:
    sizes, aspects = histograms(facts.sizes)
    classes = zip(config.class_names, facts.class_boxes.tolist(), facts.class_images.tolist(), strict=True)
    return {
        "source": str(facts.index.source),
        "images": len(facts.index),
        "images_without_label_file": facts.index.missing_labels,
        "empty_label_files": facts.empty_labels,
        "boxes": len(facts.sizes),
        "boxes_too_small": int(facts.too_small.sum()),
        "boxes_without_anchor": int(facts.unmatched.sum()),
        "classes": [{"name": name, "boxes": boxes, "images": images} for name, boxes, images in classes],
        "box_sizes": dict(zip(SIZE_NAMES, sizes.tolist(), strict=True)),
        "box_aspects": dict(zip(ASPECT_NAMES, aspects.tolist(), strict=True)),
    }


def histograms(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count boxes, [n, 2] widths and heights, per bin of SIZE_EDGES and per bin of ASPECT_EDGES."""
    return (
        np.histogram(np.sqrt(sizes.prod(1)), SIZE_EDGES)[0],
        np.histogram(sizes[:, 0] / sizes[:, 1], ASPECT_EDGES)[0],
    )


def as_text(report: Report, config: Config) -> str:
    """Return the report as text; the errors come last, where a terminal shows them."""
    sets = report.sets
    anchors = ", ".join(f"{width:g},{height:g}" for scale in config.anchors for width, height in scale)
    head = f"{config.path}: {config.classes} classes, input size {config.width}x{config.height}, anchors {anchors}"
    parts = [
        "\n".join([head, *(f"{key}: {facts.index.source}" for key, facts in sets.items())]),
        _count_table(sets),
        _class_table(sets, config.class_names),
        *_histogram_tables(sets),
    ]
    for finding in sorted(report.findings, key=lambda finding: finding.level == ERROR):
        lines = [
            f"{finding.level}: {finding.kind} ({len(finding.items)})",
            *(f"  {printable(item)}" for item in finding.items[:SHOWN]),
        ]
        if len(finding.items) > SHOWN:
            lines.append(f"  … and {len(finding.items) - SHOWN} more (--json lists all)")
        parts.append("\n".join(lines))
    totals = ((report.count(level), level) for level in (ERROR, WARNING))
    return "\n\n".join([*parts, ", ".join(f"{count} {level}{'s' * (count != 1)}" for count, level in totals)])


def _count_table(sets: dict[str, DatasetStatistics]) -> str:
    rows = [
        ("images", lambda facts: len(facts.index)),
        ("  without label file", lambda facts: facts.index.missing_labels),
        ("  with an empty label file", lambda facts: facts.empty_labels),
        ("  median width and height", lambda facts: _median(facts.index.sizes[facts.index.sizes.all(1)])),
        ("boxes", lambda facts: len(facts.sizes)),
        (f"  below {MIN_VISIBLE} pixels at input size", lambda facts: facts.too_small.sum()),
        ("  without matching anchor", lambda facts: facts.unmatched.sum()),
        ("  median width and height at input size", lambda facts: _median(facts.sizes)),
    ]
    return align_columns(
        [["", *sets], *([name, *(str(cell(facts)) for facts in sets.values())] for name, cell in rows)]
    )


def _median(sizes: np.ndarray) -> str:
    return "{:.0f}x{:.0f}".format(*np.median(sizes, axis=0)) if len(sizes) else "–"


def _class_table(sets: dict[str, DatasetStatistics], names: tuple[str, ...]) -> str:
    rows = [["class", *(f"{key} {column}" for key in sets for column in ("boxes", "share", "images"))]]
    for class_id, name in enumerate(names):
        row = [f"{class_id} {name}"]
        for facts in sets.values():
            boxes = facts.class_boxes[class_id]
            row += [str(boxes), _percent(boxes, len(facts.sizes)), str(facts.class_images[class_id])]
        rows.append(row)
    return align_columns(rows)


def _histogram_tables(sets: dict[str, DatasetStatistics]) -> Iterator[str]:
    """Yield a table per histogram; the bars show the first set, which is the training set if there is one."""
    titles = ("box size, √(w·h) in pixels at input size", "box aspect, w:h at input size")
    counts = zip(*(histograms(facts.sizes) for facts in sets.values()), strict=True)
    for title, names, columns in zip(titles, (SIZE_NAMES, ASPECT_NAMES), counts, strict=True):
        rows = [[title, *(head for key in sets for head in (key, "")), next(iter(sets))]]
        for name, *bins in zip(names, *columns, strict=True):
            shares = (_percent(count, column.sum()) for count, column in zip(bins, columns, strict=True))
            cells = [cell for pair in zip(map(str, bins), shares, strict=True) for cell in pair]
            rows.append([name, *cells, "#" * round(BAR_LENGTH * bins[0] / max(columns[0].max(), 1))])
        yield align_columns(rows, left=(0, len(rows[0]) - 1))


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
