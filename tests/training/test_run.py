"""A training run in one process, without its loop."""

import pytest
import torch

from tests.helpers.training_files import write_shapes
from utils.errors import RunError
from utils.training.data import load_data
from utils.training.run import Run
from utils.training.settings import TrainOptions, read_settings


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that has not started."""
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(data=str(write_shapes(tmp_path)), workers=0)
    return Run(read_settings(options))


@pytest.mark.parametrize(("amp", "advised"), [(None, False), (torch.float16, True)])
def test_a_failed_step_with_amp_names_the_option_that_continues_without_it(run, amp, advised):
    run.state.amp = amp
    with pytest.raises(RunError, match=r"--resume weights/small-last\.pth") as caught:
        run._fail(0, "the loss is not finite")
    assert ("--no-amp" in str(caught.value)) == advised


def test_the_bar_of_the_evaluation_ends_at_the_images_of_this_process(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("utils.training.data.EVAL_BATCH", 3)
        patch.setattr("utils.training.distributed.world_size", lambda: 2)
        run.data = load_data(run.settings, run.device)
    counts = []

    def collect(predict, batches, image_count, **options):
        found = [found for batch in batches for found in predict(batch)]
        counts.append((image_count, len(found)))
        return found

    monkeypatch.setattr("utils.training.run.collect_detections", collect)
    monkeypatch.setattr("utils.training.run.compute_metrics", lambda *given, **options: None)
    run.evaluate(run.state.model)
    assert counts == [(3, 3)]
