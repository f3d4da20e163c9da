"""Progress of a run."""

from utils.training.progress import Progress


def test_another_batch_size_keeps_the_fraction_of_the_epoch(capsys):
    progress = Progress(epoch=2, step=3, steps=6, sums=[6.0, 3.0, 1.5, 1.5])
    progress.set_steps_per_epoch(12)
    assert (progress.epoch, progress.step, progress.steps) == (2, 6, 12)
    assert list(progress.mean_losses().values()) == [2.0, 1.0, 0.5, 0.5]
    warning = capsys.readouterr().err
    assert "12 steps" in warning
    assert "50%" in warning
