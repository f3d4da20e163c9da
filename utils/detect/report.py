"""What a run of detection tells its user."""

from utils.text import align_columns


def detection_table(detections, class_names):
    """The detections of one image: class, score, box in the image's pixels, best first.

    Args:
        detections: [n, 6], (x1, y1, x2, y2, score, class).
    """
    if not len(detections):
        return "nothing found"
    rows = [["class", "score", "x1", "y1", "x2", "y2"]]
    for *box, score, label in detections.tolist():
        rows.append([class_names[int(label)], f"{score:.2f}", *(f"{value:.1f}" for value in box)])
    return align_columns(rows)


def count_table(summary, class_names, frames):
    """What was found in many frames: of each class the detections, and the frames that have one.

    Args:
        frames: what a frame is called, "images" or "frames".
    """
    rows = [["class", "found", frames]]
    for number, count in sorted(summary.detections.items(), key=lambda item: (-item[1], item[0])):
        rows.append([class_names[number], str(count), str(summary.frames_with[number])])
    rows.append(["all", str(sum(summary.detections.values())), str(summary.frames)])
    return align_columns(rows)


def model_lines(weights, runtime, config):
    """The model and the device."""
    size = f"{config.width}x{config.height}"
    classes = "1 class" if config.classes == 1 else f"{config.classes} classes"
    return [f"model   {weights} ({runtime.name}, {size}, {classes})", f"device  {runtime.device_name}"]


def time_line(summary):
    """Milliseconds that each step took for a frame, the mean where there are many."""
    steps = [f"{step} {seconds / summary.frames * 1e3:.1f} ms" for step, seconds in summary.seconds.items()]
    mean = f" (mean of {summary.frames})" if summary.frames > 1 else ""
    return f"time    {', '.join(steps)}{mean}"


def report(summary, source, weights, runtime, config):
    """The whole report of a run, as text."""
    if source.single:
        lines = [detection_table(summary.last, config.class_names)]
    else:
        frames = "images" if source.fps is None else "frames"
        lines = [count_table(summary, config.class_names, frames)]
    if source.failed:
        lines.append(f"skipped {len(source.failed)} of {source.length} images, which could not be read")
    lines += ["", *model_lines(weights, runtime, config), time_line(summary)]
    return "\n".join(lines + [f"wrote   {path}" for path in summary.written])
