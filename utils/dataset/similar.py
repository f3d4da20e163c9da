"""Compare images by their thumbnails, in all eight orientations."""

import cv2
import numpy as np

THUMBNAIL = 16  # pixels per side
FLAT = 1.0  # gray levels; a thumbnail with a smaller standard deviation is flat and matches no other
BATCH = 32  # thumbnails per call of `correlate`
# Correlation of thumbnails above which images count as copies. COCO images that are halved, rotated and saved as JPEG
# of quality 50 keep 0.9989 or more with the original; different images reach 0.79, photos of one scene up to 0.99.
MIN_CORRELATION = 0.995


def make_thumbnail(image: np.ndarray) -> np.ndarray:
    """Reduce an image to a vector whose dot product with another one is their correlation.

    Args:
        image: [H, W, 3] uint8.

    Returns:
        [THUMBNAIL²] float16, mean 0 and length 1; zeros for a flat image.
    """
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    # Not cv2.COLOR_BGR2GRAY, which rounds to whole gray levels: too coarse for dark images.
    gray = small.astype(np.float32).mean(2).ravel()
    gray -= gray.mean()
    length = np.linalg.norm(gray)
    return (gray / length if length > FLAT * THUMBNAIL else np.zeros_like(gray)).astype(np.float16)


def correlate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlate thumbnails, in eight orientations, with others.

    Args:
        first: [n, THUMBNAIL²] float32 from `make_thumbnail`, at most BATCH to limit memory use.
        second: [m, THUMBNAIL²] float32 from `make_thumbnail`.

    Returns:
        [n, 8, m] correlations; the orientations are four rotations, then the same mirrored.
    """
    squares = first.reshape(-1, THUMBNAIL, THUMBNAIL)
    rotated = np.stack([np.rot90(squares, turns, (1, 2)) for turns in range(4)], 1)
    views = np.concatenate((rotated, rotated[..., ::-1]), 1)  # [n, 8, THUMBNAIL, THUMBNAIL]
    return (views.reshape(-1, THUMBNAIL**2) @ second.T).reshape(len(first), 8, -1)
