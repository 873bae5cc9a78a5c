"""One image file to pixels, with every way it can fail put in a sentence."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from drmguard.errors import InputError

# Far above any network's input; a file that claims more is refused before it is decoded.
MAX_PIXELS = 64_000_000


Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


def decode(
    content: bytes, *, where: str, resize: tuple[int, int] | None, box: Box | None = None
) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or other still image to RGB uint8 (3, H, W).

    Args:
        content: bytes of the file.
        where: file (and line) to name in errors.
        resize: (height, width) to resize to, where the user asked for it.
        box: part to cut out first; what lies beyond the image is black.

    Raises:
        InputError: not an image, a truncated file, a decompression bomb, or an empty box.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise InputError(
                        f"{where}: the image claims {width}×{height} pixels, more than the "
                        f"{MAX_PIXELS:,} allowed (a decompression bomb?); remove or shrink it"
                    )
                rgb = _to_rgb(image, where)
                if box is not None:
                    left, top, right, bottom = (round(edge) for edge in box)
                    if not (left < right and top < bottom):
                        raise InputError(f"{where}: the face's box {box} is empty; correct it")
                    rgb = rgb.crop((left, top, right, bottom))
                if resize is not None and (height, width) != resize:
                    rgb = rgb.resize((resize[1], resize[0]), Image.Resampling.LANCZOS)
                pixels: NDArray[np.uint8] = np.asarray(rgb, dtype=np.uint8)
    except UnidentifiedImageError:
        raise InputError(f"{where}: not a readable image; remove it or save it as PNG") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{where}: a decompression bomb ({error}); remove it") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{where}: the image is truncated or damaged ({error}); replace it"
        ) from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode in ("I", "I;16", "I;16B", "F"):
        raise InputError(
            f"{where}: the image has {image.mode} pixels (more than 8 bits a channel), whose "
            "range is not known; convert it to 8-bit RGB or grey"
        )
    return image.convert("RGB")


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """One image (3, H, W) at (height, width) ``size``, as :func:`decode` would resize it."""
    if pixels.shape[1:] == size:
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    small = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(small).transpose(2, 0, 1)
