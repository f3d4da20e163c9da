"""The text that test.py prints at the end of a run."""

from collections.abc import Sequence

import numpy as np

from utils.detect.run import Summary
from utils.text import align_columns


def format_report(summary: Summary) -> str:
    """Format detections, model, device, times and the paths of the results."""
    source, frames = summary.source, summary.frames
    lines = [detection_table(summary.last, summary.class_names) if source.single else count_table(summary)]
    if not summary.detections:
        lines.append("a lower --conf also shows less certain detections")
    if source.failed:
        lines.append(f"skipped {len(source.failed)} of {source.length} images, which could not be read")
    if summary.interrupted:
        total = "" if source.length is None else f" of {source.length}"
        lines.append(f"interrupted after {frames}{total} {source.unit}")
    if source.drops:
        times = "once" if source.drops == 1 else f"{source.drops} times"
        lines.append(f"opened {source.origin} again {times}, because it gave no more frames")
    times = ", ".join(f"{step} {seconds / frames * 1e3:.1f} ms" for step, seconds in summary.seconds.items())
    times += f" (mean of {frames})" if frames > 1 else ""
    times += f"; {summary.busy_note}" if summary.busy_note else ""
    lines += [
        "",
        f"model   {summary.model}",
        f"device  {summary.device}",
        f"conf    {summary.threshold}",
        f"time    {times}",
    ]
    return "\n".join(lines + [f"wrote   {path}" for path in summary.written])


def detection_table(detections: np.ndarray, class_names: Sequence[str]) -> str:
    """Format the detections [n, 6] of one image: class, score and box in pixels of the image."""
    if not len(detections):
        return "nothing found"
    rows = [["class", "score", "x1", "y1", "x2", "y2"]]
    for *box, score, class_id in detections.tolist():
        rows.append([class_names[int(class_id)], f"{score:.2f}", *(f"{value:.1f}" for value in box)])
    return align_columns(rows)


def count_table(summary: Summary) -> str:
    """Format the counts of detections, and of the images that have any: one row per class, and one for all images."""
    rows = [["class", "found", summary.source.unit]]
    for class_id, count in sorted(summary.detections.items(), key=lambda item: (-item[1], item[0])):
        rows.append([summary.class_names[class_id], str(count), str(summary.frames_with[class_id])])
    rows.append(["all", str(summary.detections.total()), str(summary.frames)])
    return align_columns(rows)
