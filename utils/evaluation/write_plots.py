"""All plots of an evaluation."""

from pathlib import Path

from utils.config import Config
from utils.dataset.index import DatasetIndex
from utils.evaluation.confusion import confusion_matrix, worst_images
from utils.evaluation.evaluate import Evaluation
from utils.plots.fonts import ClassLabel


def write_plots(
    folder: Path, evaluation: Evaluation, config: Config, index: DatasetIndex, labels: list[ClassLabel]
) -> list[Path]:
    """Draw precision-recall and F1 curves, the confusion matrix, and the images with the most mistakes.

    Returns:
        The paths written.
    """
    from utils.plots.evaluation import save_plots
    from utils.plots.predictions import save_predictions

    frame_size = config.size
    matrix = confusion_matrix(evaluation.detections, index.labels, frame_size, config.classes)
    written = save_plots(folder, evaluation.coco, matrix, labels)
    worst = folder / "worst.jpg"
    images = worst_images(evaluation.detections, index.labels, frame_size, config.classes)
    save_predictions(worst, index, evaluation.detections, frame_size, labels, images)
    return [*written, worst] if worst.exists() else written
