"""The report on a data set, as text for people and as a dictionary for JSON."""

import numpy as np

from utils.dataset.statistics import ERROR, MIN_VISIBLE
from utils.text import align_columns

SHOWN = 10  # lines of one finding in the text; JSON has all
BAR = 40  # characters of the longest bar of a histogram

SIZE_EDGES = (0, 4, 8, 16, 32, 64, 128, 256, np.inf)  # square root of the area, pixels at network size
ASPECT_EDGES = (0, 1 / 4, 1 / 2, 4 / 5, 5 / 4, 2, 4, np.inf)  # width over height, at network size
_ASPECT_NAMES = ("below 1:4", "1:4 to 1:2", "1:2 to 4:5", "about 1:1", "5:4 to 2:1", "2:1 to 4:1", "above 4:1")
_SIZE_NAMES = ("below 4", "4 to 8", "8 to 16", "16 to 32", "32 to 64", "64 to 128", "128 to 256", "256 and more")


def as_dictionary(report, config):
    """The whole report in types that JSON has."""
    return {
        "data": str(config.path),
        "width": config.width,
        "height": config.height,
        "anchors": config.anchors,
        "errors": report.errors,
        "warnings": report.warnings,
        "sets": {key: _set_dictionary(facts, config) for key, facts in report.sets.items()},
        "findings": [finding._asdict() for finding in report.findings],
    }


def _set_dictionary(facts, config):
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
        "box_sizes": dict(zip(_SIZE_NAMES, sizes.tolist(), strict=True)),
        "box_aspects": dict(zip(_ASPECT_NAMES, aspects.tolist(), strict=True)),
    }


def histograms(sizes):
    """Boxes by size and by aspect.

    Args:
        sizes: [n, 2], widths and heights in pixels at network size.
    Returns:
        two arrays of counts, for the bins of SIZE_EDGES and ASPECT_EDGES.
    """
    return (
        np.histogram(np.sqrt(sizes.prod(1)), SIZE_EDGES)[0],
        np.histogram(sizes[:, 0] / sizes[:, 1], ASPECT_EDGES)[0],
    )


def as_text(report, config):
    """The whole report as lines for a terminal."""
    anchors = ", ".join(f"{width:g},{height:g}" for scale in config.anchors for width, height in scale)
    # Errors last: the end is what a terminal shows.
    findings = sorted(report.findings, key=lambda finding: finding.level == ERROR)
    head = f"{config.path}: {config.classes} classes, network {config.width}x{config.height}, anchors {anchors}"
    parts = [
        "\n".join([head, *(f"{key}: {facts.index.source}" for key, facts in report.sets.items())]),
        _counts(report.sets),
        _classes(report.sets, config.class_names),
        *_histogram_texts(report.sets),
        *map(_finding_text, findings),
        f"{_plural(report.errors, 'error')}, {_plural(report.warnings, 'warning')}",
    ]
    return "\n\n".join(parts)


def _counts(sets):
    rows = [
        ("images", lambda facts: len(facts.index)),
        ("  without label file", lambda facts: facts.index.missing_labels),
        ("  with an empty one", lambda facts: facts.empty_labels),
        ("  median width and height", lambda facts: _medians(facts.index.sizes[facts.index.sizes.all(1)])),
        ("boxes", lambda facts: len(facts.sizes)),
        (f"  below {MIN_VISIBLE} pixels at network size", lambda facts: facts.too_small.sum()),
        ("  without matching anchor", lambda facts: facts.unmatched.sum()),
        ("  median width and height at network size", lambda facts: _medians(facts.sizes)),
    ]
    lines = [[name, *(str(value(facts)) for facts in sets.values())] for name, value in rows]
    return align_columns([["", *sets], *lines])


def _medians(sizes):
    return "{:.0f}x{:.0f}".format(*np.median(sizes, axis=0)) if len(sizes) else "–"


def _classes(sets, names):
    heads = [f"{key} {what}" for key in sets for what in ("boxes", "share", "images")]
    rows = []
    for number, name in enumerate(names):
        row = [f"{number} {name}"]
        for facts in sets.values():
            boxes = facts.class_boxes[number]
            row += [str(boxes), _percent(boxes, len(facts.sizes)), str(facts.class_images[number])]
        rows.append(row)
    return align_columns([["class", *heads], *rows])


def _histogram_texts(sets):
    counts = {key: histograms(facts.sizes) for key, facts in sets.items()}
    titles = ("box size, √(w·h) in pixels at network size", "box aspect, w:h at network size")
    for part, (title, names) in enumerate(zip(titles, (_SIZE_NAMES, _ASPECT_NAMES), strict=True)):
        columns = [found[part] for found in counts.values()]
        # The bars are of the first set, which is the one trained on.
        longest = max(columns[0].max(), 1)
        rows = [
            [
                name,
                *(text for column in columns for text in (str(column[row]), _percent(column[row], column.sum()))),
                "#" * round(BAR * columns[0][row] / longest),
            ]
            for row, name in enumerate(names)
        ]
        heads = [head for key in counts for head in (key, "")]
        yield align_columns([[title, *heads, next(iter(counts))], *rows], left=(0, len(heads) + 1))


def _finding_text(finding):
    lines = [f"  {item}" for item in finding.items[:SHOWN]]
    if len(finding.items) > SHOWN:
        lines.append(f"  … and {len(finding.items) - SHOWN} more (--json lists all)")
    return "\n".join([f"{finding.level}: {finding.kind} ({len(finding.items)})", *lines])


def _plural(count, word):
    return f"{count} {word}{'s' * (count != 1)}"


def _percent(part, whole):
    return f"{part / whole:.1%}" if whole else "–"
