"""The compiled functions of this folder's C++, as Python calls them."""

from ctypes import c_float, c_int, c_long, c_void_p

import torch

from utils.kernels.build import build

SOURCES = ("batchnorm.cpp", "pooling.cpp", "depthwise.cpp")
LAYOUT = torch.channels_last  # of all tensors that the functions take
_TENSORS, _SIZES = [c_void_p], [c_long]
_ARGUMENTS = {
    "batchnorm_forward": _TENSORS * 2 + _SIZES * 2 + _TENSORS * 6 + [c_float, c_float, c_int],
    "batchnorm_backward": _TENSORS * 2 + _SIZES * 2 + _TENSORS * 7 + [c_int],
    "batchnorm_pool_forward": _TENSORS * 3 + _SIZES * 4 + _TENSORS * 6 + [c_float, c_float],
    "batchnorm_pool_backward": _TENSORS * 3 + _SIZES * 4 + _TENSORS * 6,
    "depthwise_backward": _TENSORS * 5 + _SIZES * 4 + [c_int, c_int],
}


class Kernels:
    """The compiled functions; each is called by its name, with tensors and numbers, and uses PyTorch's threads.

    Raises:
        utils.kernels.build.BuildError: there is no working compiler here.
    """

    def __init__(self):
        library = build(*SOURCES)
        self._functions = {name: getattr(library, name) for name in _ARGUMENTS}
        for name, function in self._functions.items():
            function.argtypes, function.restype = [*_ARGUMENTS[name], c_int], None

    def __call__(self, name, *arguments):
        values = (value.data_ptr() if isinstance(value, torch.Tensor) else value for value in arguments)
        self._functions[name](*values, torch.get_num_threads())

    def __deepcopy__(self, memo):
        return self  # a copy of a network shares them
