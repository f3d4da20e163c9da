"""The network. Its constants are here, so that code can import them without PyTorch."""

STRIDES = (16, 32)  # input pixels per cell, one entry per output scale
SCALES = len(STRIDES)
SIZE_MULTIPLE = STRIDES[-1]  # width and height of the input must be whole cells at the coarsest scale
MAX_SIZE = 8192  # pixels per side of an input; a larger one in a file is a mistake, and would fill the memory
