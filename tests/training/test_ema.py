"""EMA of the weights."""

import torch

from utils.training.ema import build_ema, ema_weight, update_ema


def test_the_average_follows_the_weights():
    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    ema = build_ema(model)
    torch.nn.init.ones_(model.weight)
    values = []
    for step in range(1, 3000):
        update_ema(ema, model, torch.tensor(ema_weight(step)))
        values.append(float(ema.weight))
    assert values == sorted(values)
    assert 0.9 < values[0] < values[-1] <= 1  # the decay of the first step is near 0
    assert not ema.weight.requires_grad


def test_counters_are_copied_and_statistics_averaged():
    model = torch.nn.BatchNorm2d(2)
    ema = build_ema(model)
    model(torch.randn(4, 2, 3, 3) + 5)
    update_ema(ema, model, torch.tensor(0.25))
    assert int(ema.num_batches_tracked) == 1
    torch.testing.assert_close(ema.running_mean, model.running_mean * 0.25)
    torch.testing.assert_close(ema.running_var, 0.75 + model.running_var * 0.25)
