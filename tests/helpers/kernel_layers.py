"""Run a network forward and backward once, for tests that compare layers."""

import contextlib

import torch

LAYOUT = torch.channels_last


@contextlib.contextmanager
def threads(count):
    """Let PyTorch use `count` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def step(network, x, gradient):
    """Return output, gradients of the input and of the weights, and buffers, in float64."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = network(x * 1)  # times 1, because a leaf cannot be changed in place
    y.backward(gradient)
    parts = (y.detach(), x.grad, *(weight.grad for weight in network.parameters()), *network.buffers())
    return [part.double() for part in parts]


def random_tensor(*size):
    return torch.randn(size).contiguous(memory_format=LAYOUT)
