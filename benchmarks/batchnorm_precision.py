"""How exact BatchNorm's sums are in each memory layout, and what that makes of a training step's gradients.

    python3 benchmarks/batchnorm_precision.py --batch-size 32

Gradients of one step in float32, from random weights on random pictures, against the same in float64.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils import cli


def main(options):
    import torch

    torch.manual_seed(0)
    exact = gradients(options, torch.float64, torch.contiguous_format)
    print(f"batch {options.batch_size}, {options.size}x{options.size}, torch {torch.__version__}, relative error of")
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last)):
        found = gradients(options, torch.float32, layout)
        print(f"  gradients, {name:14}{relative_error(found, exact):.1e}")


def gradients(options, dtype, layout):
    """Gradient of all weights, one vector in float64."""
    import torch

    from model.detector import Detector

    torch.manual_seed(0)
    detector = Detector(classes=2, anchor_num=3).to(dtype).to(memory_format=layout)
    coarse = torch.rand(options.batch_size, 3, 11, 11)
    images = torch.nn.functional.interpolate(coarse, (options.size, options.size), mode="bicubic")
    images = images.to(dtype).contiguous(memory_format=layout)
    # Any loss will do that depends on every output.
    loss = sum(values.square().mean() for scale in detector.train()(images) for values in scale)
    loss.backward()
    return torch.cat([weight.grad.double().flatten() for weight in detector.parameters()])


def relative_error(found, exact):
    return float((found - exact).norm() / exact.norm())


if __name__ == "__main__":
    arguments = cli.parser(__doc__.split("\n", 1)[0], ["python3 benchmarks/batchnorm_precision.py --batch-size 32"])
    arguments.add_argument("--batch-size", type=cli.positive_int, default=32, metavar="N", help="images of the step")
    arguments.add_argument("--size", type=cli.positive_int, default=352, metavar="N", help="pixels, a multiple of 32")
    cli.run(arguments, main)
