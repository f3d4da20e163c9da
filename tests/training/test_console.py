"""The lines that describe a run before it starts."""

import re
import sys

import pytest

from tests.helpers.training_files import write_shapes
from utils.training.console import describe_run
from utils.training.run import Run
from utils.training.settings import TrainOptions, read_settings


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """Return the lines of a run with these options."""
    monkeypatch.chdir(tmp_path)

    def lines(**given):
        options = TrainOptions(data=str(write_shapes(tmp_path)), workers=0, **given)
        run = Run(read_settings(options))
        return "\n".join(describe_run(run.settings, run.data, run.state, run.start, False))

    return lines


def test_without_thop_the_parameters_are_printed_alone(describe, monkeypatch):
    whole = re.search(r"^(model .* parameters), .* MMAC at 64x64$", describe(), re.MULTILINE)
    monkeypatch.setitem(sys.modules, "thop", None)
    assert whole[1] in describe().splitlines()


def test_amp_is_named_only_if_it_is_used(describe):
    assert ", amp" not in describe(amp=True)  # on a CPU
    assert ", ema" in describe(ema=True)
