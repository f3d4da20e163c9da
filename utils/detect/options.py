"""The options of test.py."""

from dataclasses import dataclass

from utils.config import DEFAULT_IOU, MAX_DETECTIONS


@dataclass(frozen=True)
class DetectOptions:
    """What to detect in, with which weights and thresholds, and which results to write."""

    img: str  # as for `utils.detect.sources.open_source`
    weights: str
    data: str | None = None  # .data file; None if the weights have a description
    device: str = "auto"  # as for `utils.runtimes.device.select_device`
    threads: int | None = None  # of the CPU; None: the fastest number, or 1 for a single image
    conf: float | None = None  # None: the threshold stored with the weights
    iou: float = DEFAULT_IOU
    max_det: int = MAX_DETECTIONS
    classes: str | None = None  # as for `utils.detect.classes.select_classes`; None: all
    output: str | None = None  # folder; None: runs/test/NAME, and SINGLE_RESULT for one image
    txt: bool = False  # write darknet labels
    crop: bool = False  # write one image per detected object
    json: str | None = None  # write all detections to this file
    show: bool = False  # show the results in a window
    font: str | None = None  # path of a font for class names
    hide_labels: bool = False  # draw boxes without class names and scores
    line_width: int | None = None  # of the boxes, in pixels; None: depends on the size of the image
