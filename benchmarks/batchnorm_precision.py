"""Measure the precision of gradients and the training speed with BatchNorm in each memory format.

    python3 benchmarks/batchnorm_precision.py --batch-size 32

Compares the gradients of one step in float32 with those in float64, from random weights on random images. The speed is
that of forward and backward pass alone: the median of all steps after the first.
"""

import argparse
import statistics
import time

from utils import cli


def main(options: argparse.Namespace) -> None:
    import torch

    from utils.kernels.replace_layers import use_kernels

    contiguous, channels_last = torch.contiguous_format, torch.channels_last
    exact, _ = train(options, torch.float64, contiguous)
    print(f"batch {options.batch_size}, {options.size}x{options.size}, torch {torch.__version__}")
    for name, layout, prepare in (
        ("contiguous", contiguous, None),
        ("channels last", channels_last, None),
        ("channels last, utils.kernels", channels_last, use_kernels),
    ):
        gradients, seconds = train(options, torch.float32, layout, prepare)
        error = float((gradients - exact).norm() / exact.norm())
        speed = options.batch_size / statistics.median(seconds)
        print(f"  {name:32}relative error of gradients {error:.1e}, {speed:5.1f} images/s")


def train(options, dtype, layout, prepare=None):
    """Train for some steps; return the gradients of the first step in float64 and the seconds of the other steps."""
    import torch

    from model.detector import Detector
    from utils.machine import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    detector = Detector(classes=2, anchor_num=3).train().to(dtype)
    if prepare is not None:
        prepare(detector)
    detector.to(memory_format=layout)
    coarse = torch.rand(options.batch_size, 3, 11, 11)
    images = torch.nn.functional.interpolate(coarse, (options.size, options.size), mode="bicubic")
    images = images.to(dtype).contiguous(memory_format=layout)
    gradients, seconds = None, []
    for _ in range(1 if dtype == torch.float64 else options.steps):
        start = time.perf_counter()
        # Any loss that depends on every output is suitable.
        sum(values.square().mean() for scale in detector(images) for values in scale).backward()
        seconds.append(time.perf_counter() - start)
        if gradients is None:
            gradients = torch.cat([weight.grad.double().flatten() for weight in detector.parameters()])
        detector.zero_grad()
    return gradients, seconds[1:] or seconds


if __name__ == "__main__":
    parser = cli.parser(__doc__)
    parser.add_argument("--batch-size", type=cli.positive_int, default=32, metavar="N", help="images per batch")
    parser.add_argument(
        "--size", type=cli.positive_int, default=352, metavar="N", help="input size in pixels, a multiple of 32"
    )
    parser.add_argument("--steps", type=cli.positive_int, default=8, metavar="N", help="steps per memory format")
    cli.run(parser, main)
