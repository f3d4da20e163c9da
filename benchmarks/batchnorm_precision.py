"""How exact BatchNorm is in each memory layout, what that makes of a step's gradients, and how long the step takes.

    python3 benchmarks/batchnorm_precision.py --batch-size 32

Gradients of one step in float32, from random weights on random pictures, against the same in float64; the speed is
that of forward and backward alone, the median of the steps after the first.
"""

import statistics
import time

from utils import cli


def main(options):
    import torch

    from utils.kernels.library import Kernels
    from utils.kernels.use import use_kernels

    kernels = Kernels()
    contiguous, last = torch.contiguous_format, torch.channels_last
    exact, _ = train(options, torch.float64, contiguous)
    print(f"batch {options.batch_size}, {options.size}x{options.size}, torch {torch.__version__}")
    for name, layout, prepare in (
        ("contiguous", contiguous, None),
        ("channels last", last, None),
        ("channels last, utils.kernels", last, lambda network: use_kernels(network, kernels)),
    ):
        found, seconds = train(options, torch.float32, layout, prepare)
        speed = options.batch_size / statistics.median(seconds)
        print(f"  {name:32}relative error of gradients {relative_error(found, exact):.1e}, {speed:5.1f} images/s")


def train(options, dtype, layout, prepare=None):
    """Gradient of all weights after the first step, one vector in float64, and the seconds of all steps but one."""
    import torch

    from model.detector import Detector
    from utils.memory import keep_freed_memory

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
        # Any loss will do that depends on every output.
        sum(values.square().mean() for scale in detector(images) for values in scale).backward()
        seconds.append(time.perf_counter() - start)
        if gradients is None:
            gradients = torch.cat([weight.grad.double().flatten() for weight in detector.parameters()])
        detector.zero_grad()
    return gradients, seconds[1:] or seconds


def relative_error(found, exact):
    return float((found - exact).norm() / exact.norm())


if __name__ == "__main__":
    arguments = cli.parser(__doc__.split("\n", 1)[0], ["python3 benchmarks/batchnorm_precision.py --batch-size 32"])
    arguments.add_argument("--batch-size", type=cli.positive_int, default=32, metavar="N", help="images of the step")
    arguments.add_argument("--size", type=cli.positive_int, default=352, metavar="N", help="pixels, a multiple of 32")
    arguments.add_argument("--steps", type=cli.positive_int, default=8, metavar="N", help="of each, for the speed")
    cli.run(arguments, main)
