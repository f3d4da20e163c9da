"""EMA of the weights."""

import torch

from utils.training.ema import build_ema, update_ema


def test_the_average_follows_the_weights():
    model = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(model.weight)
    ema = build_ema(model)
    torch.nn.init.ones_(model.weight)
    values = []
    for step in range(1, 3000):
        update_ema(ema, model, step)
        values.append(float(ema.weight))
    assert values == sorted(values)
    assert 0.9 < values[0] < values[-1] <= 1  # the decay of the first step is near 0
    assert not ema.weight.requires_grad
