"""The model under examination, and the only place that knows how it wants its pixels.

Everything else in drmguard handles images as (N, C, H, W) in [0, 1].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from drmguard.errors import InputError
from drmguard.models.folding import fold_batch_norm
from drmguard.models.head import BeforeBound, find_bounded_head, find_head, named_head

_EVALUATION_BATCH = 128
_RANGE_TOLERANCE = 1e-4


@dataclass(frozen=True)
class InputFormat:
    """How a model wants its images.

    Attributes:
        pixel_range: what black and white are to the model before normalisation, (0, 1) or
            (0, 255) say.
        mean, std: subtracted and divided by, a channel each (or one for all), in the unit of
            ``pixel_range``; empty for none.
        layout: order of the axes the model takes.
    """

    pixel_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    def __post_init__(self) -> None:
        low, high = self.pixel_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(
                f"the pixel range must be LOW..HIGH with LOW < HIGH, not {low}..{high}"
            )
        if any(not math.isfinite(value) for value in self.mean):
            raise InputError(f"the mean must be finite, not {self.mean}")
        if any(not (math.isfinite(value) and value > 0) for value in self.std):
            raise InputError(f"the standard deviation must be above 0, not {self.std}")
        if self.layout not in ("NCHW", "NHWC"):
            raise InputError(f"the layout must be NCHW or NHWC, not {self.layout!r}")

    def check_channels(self, channels: int) -> None:
        """Refuse a mean or deviation that does not fit the images' channels."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, channels):
                raise InputError(
                    f"the {name} has {len(values)} values, but the images have {channels} channels"
                )


class Victim(nn.Module):
    """A model with its declared input format: images in [0, 1] to outputs (N, d).

    Args:
        module: the model; it takes images as ``input_format`` says and returns (N, d).
        input_format: pixel range, normalisation and layout.
        head: name of the last linear layer H inside ``module``; found by itself where it is None.

    Attributes:
        images_seen: images that went through the model so far, as a measure of cost.
    """

    def __init__(
        self,
        module: nn.Module,
        input_format: InputFormat | None = None,
        *,
        head: str | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.input_format = input_format or InputFormat()
        self.head_name = head
        self.images_seen = 0
        if head is not None:
            named_head(module, head)

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (N, d) of images (N, C, H, W) in [0, 1].

        Raises:
            InputError: pixels outside [0, 1], or an output that is not (N, d).
        """
        low, high = images.detach().aminmax()
        if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
            raise InputError(
                f"images must lie in [0, 1], but range from {low:.4g} to {high:.4g}; the victim "
                "itself converts them to the model's pixel range"
            )
        self.images_seen += len(images)
        outputs = self.module(self._convert(images))
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != images.shape[:1]:
            raise InputError(
                "the model must return one tensor with a row an image, not "
                f"{tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__}"
            )
        return outputs.reshape(len(images), -1)

    def _convert(self, images: Tensor) -> Tensor:
        form = self.input_format
        low, high = form.pixel_range
        if (low, high) != (0.0, 1.0):
            images = images * (high - low) + low
        if form.mean:
            images = images - images.new_tensor(form.mean).reshape(-1, 1, 1)
        if form.std:
            images = images / images.new_tensor(form.std).reshape(-1, 1, 1)
        return images.permute(0, 2, 3, 1) if form.layout == "NHWC" else images

    @property
    def head(self) -> nn.Linear:
        """The linear layer H.

        Raises:
            InputError: it was neither found by :meth:`find_head` nor named.
        """
        if self.head_name is None:
            raise InputError(
                "no linear layer of the model produces its outputs, so features F(x) are not "
                "known; name the last linear layer with head= (or --head)"
            )
        return named_head(self.module, self.head_name)

    def find_head(self, images: Tensor) -> str | None:
        """Find H by running ``images``, unless it was named; its name, or None."""
        if self.head_name is None:
            with torch.no_grad():
                self.head_name = find_head(self.module, self._convert(images))
        return self.head_name

    def before_bound(self, images: Tensor) -> Victim | None:
        """The model up to the linear layer behind which a bound stands, as a tanh.

        It shares the module; the layer, found by running dozens of ``images``, is H of both.  None
        where there is no such layer, or another was named.
        """
        with torch.no_grad():
            name = find_bounded_head(self.module, self._convert(images))
        if name is None or self.head_name not in (None, name):
            return None
        self.head_name = name
        before = BeforeBound(self.module, name)
        return Victim(before, self.input_format, head=f"module.{name}").eval()

    @torch.no_grad()
    def bounded(self, values: Tensor, images: Tensor) -> Tensor:
        """Outputs (N, d) of the whole model where H, :meth:`before_bound`, gives ``values``."""
        assert isinstance(self.module, BeforeBound)
        return self.module.outputs_at(values, self._convert(images))

    def features_and_outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features F(x) (N, m), the input of H, and outputs (N, d), in one pass."""
        caught: list[Tensor] = []

        def catch(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            caught.append(arguments[0])

        handle = self.head.register_forward_pre_hook(catch)
        try:
            outputs = self(images)
        finally:
            handle.remove()
        if len(caught) != 1 or caught[0].ndim != 2:
            raise InputError(
                f"the layer {self.head_name!r} must be used once a pass, on features (N, m); "
                "name another with head= (or --head)"
            )
        return caught[0], outputs

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Features and outputs of all images of ``batches``, without gradients."""
        pairs = [
            self.features_and_outputs(chunk)
            for batch in batches
            for chunk in batch.split(_EVALUATION_BATCH)
        ]
        return torch.cat([f for f, _ in pairs]), torch.cat([o for _, o in pairs])

    def frozen(self, device: torch.device | str = "cpu") -> Victim:
        """A copy made for searching: evaluation mode, no parameter gradients, BatchNorm folded.

        The original keeps its bits, mode and hooks, since nothing touches it.

        Raises:
            InputError: a model that cannot be copied.
        """
        try:
            module = copy.deepcopy(self.module)
        except (TypeError, RuntimeError, AttributeError) as error:
            raise InputError(f"the model cannot be copied for scanning ({error})") from None
        module = module.to(device).eval().requires_grad_(False)
        module = fold_batch_norm(module)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        twin = Victim(module, self.input_format)
        twin.head_name = self.head_name
        return twin.eval()
