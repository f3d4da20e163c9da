"""Boxes of images with an EXIF rotation: some tools annotate the rotated image, others the image as it is stored."""

from collections import Counter
from collections.abc import Sequence

from utils.convert.annotations import AnnotatedImage
from utils.dataset.images import TRANSPOSED, ImageHeader

ASPECT_TOLERANCE = 0.02  # an image may have been resized after it was annotated, but not stretched

Size = tuple[float, float]  # width, height


def fits(annotated: Size | None, size: tuple[int, int]) -> bool:
    """Whether an image of this size can be the annotated one."""
    if annotated is None:
        return True
    x_scale, y_scale = size[0] / annotated[0], size[1] / annotated[1]
    # Sizes are rounded to a pixel, which changes the ratio of small images.
    return abs(x_scale / y_scale - 1) <= ASPECT_TOLERANCE + 1 / min(size)


def find_stored(
    images: Sequence[AnnotatedImage], headers: Sequence[ImageHeader | None]
) -> tuple[list[bool], str | None]:
    """Decide for each image whether its boxes are those of the stored image.

    The annotated size shows it, except for square images, rotations by 180° and images without annotated size. For
    these the majority of the other images decides; without other images the displayed image is assumed.

    Args:
        headers: header of each; None for files that cannot be used.

    Returns:
        One value per image, and a note for the user; None if no image is rotated.
    """
    stored = [False] * len(images)
    known = {
        position: _is_stored(image, header)
        for position, (image, header) in enumerate(zip(images, headers, strict=True))
        if header and header.orientation != 1
    }
    if not known:
        return stored, None
    votes = Counter(known.values())
    for position, is_stored in known.items():
        stored[position] = votes[True] > votes[False] if is_stored is None else is_stored
    turned, first = sum(stored), images[next(iter(known))].where
    return stored, (
        f"{len(known)} images have an EXIF rotation (first {first}): the boxes of {len(known) - turned} are taken "
        f"as those of the displayed image, of {turned} as those of the stored image and are turned"
        + (f"; for {votes[None]} the annotations do not show it" if votes[None] else "")
    )


def _is_stored(image: AnnotatedImage, header: ImageHeader) -> bool | None:
    """Whether the boxes are those of the stored image; None if the annotated size does not show it."""
    if image.size is None:
        return None
    displayed, stored = fits(image.size, header.size), fits(image.size, header.stored_size)
    return None if displayed == stored else stored


def turn(corners: tuple[float, ...], size: Size, orientation: int) -> tuple[float, ...]:
    """Convert corners (x1, y1, x2, y2) in a stored image to the displayed one.

    Args:
        corners: in pixels.
        size: of the stored image.
        orientation: 1…8, see the EXIF standard (CIPA DC-008, section 4.6.4).
    """
    x1, y1, x2, y2 = corners
    width, height = size
    if orientation in (2, 3, 7, 8):  # mirrored horizontally before the axes are exchanged
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):  # and vertically
        y1, y2 = height - y2, height - y1
    return (y1, x1, y2, x2) if orientation in TRANSPOSED else (x1, y1, x2, y2)
