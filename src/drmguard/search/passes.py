"""How many images go through the victim at once, and from which size on a scan takes fewer."""

from __future__ import annotations

# What a pass of stamped images may take, by a full-width ResNet-18's need for a pixel (measured).
IMAGE_BYTES_AT_ONCE, BYTES_A_PIXEL = 1 << 30, 1600
# From this side on a pass costs so much that a scan takes a third of the passes.
LARGE_SIDE = 128


def images_at_once(image_shape: tuple[int, int, int]) -> int:
    """Images of this shape (C, H, W) whose forward and backward pass fits into the memory."""
    _, height, width = image_shape
    return min(96, max(8, IMAGE_BYTES_AT_ONCE // (BYTES_A_PIXEL * height * width)))
