"""Changes that follow a backdoor while it is unlearned.

A reversed trigger is one of many that the backdoor obeys, and training against it alone leaves the
others.  So in unlearning a part of every batch also carries a *pursuing* change, which takes one
step a training step.  A change that may go anywhere is an adversarial perturbation, and training
against it costs the model its clean error.  So the pursuing change seeks the one answer that the
reversed trigger gave, and follows the backdoor alone: it is trained against only for as long as it
gets there.  Where the reversed trigger is local, it lies on top of it and around it, and takes a
quarter of the batch; over the whole image it takes an eighth.  A conditional trigger (a network
that makes a change of each image) pursues with its own network, in a quarter.

What was found may be the backdoor in part, or one of several ways to it, unless it is a small
patch.  So of regression models another such network, which starts from nothing, seeks the same
answer.

A patch that lies elsewhere in each image is pursued by patches that do so, too, and that seek its
answer.  Such patches of noise roam the images after other answers than the planted one.
"""

from __future__ import annotations

import abc
import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from drmguard.models.victim import Victim
from drmguard.tasks import Task
from drmguard.training import LossFunction
from drmguard.triggers.distribution import TriggerDistribution
from drmguard.triggers.generator import ResidualGenerator
from drmguard.triggers.placed_patch import PlacedPatchTrigger
from drmguard.triggers.placing import paste, random_places

# Of a change: of each pixel, or of all.
_Limit = TypeVar("_Limit", Tensor, float)
# A step in units of the limit (of a pixel, where patches move), and the pixels that count as around
# a local change.
_STEP, _AROUND = 0.1, 5
# A change over the image gets to an answer if less than the first share of the way is left, a local
# or a conditional one if less than the second; the bound of a conditional one is so many times as
# wide as the trigger's, or of this width.
_THERE, _HALFWAY, _WIDER, _WIDTH = 0.25, 0.5, 1.4, 0.12
# A trigger that changes more than the first share of the image is spread over it; one that, with
# what is around, changes less than the second is a small patch.
_LOCAL, _SMALL = 0.25, 0.05
# Patches that pursue at a time where they lie elsewhere in each image, and the side of those that
# roam the images, as a share of the image's.
_PATCHES, _ROAMING = 4, 0.1


def pursuit_of(
    trigger: nn.Module, images: Tensor, change: Tensor, *, given: Victim, task: Task, reach: float
) -> AnswerPursuit | None:
    """What pursues the backdoor that a reversed trigger calls.

    None where the trigger is local but elsewhere in each image, and no patch that is moved.

    Args:
        trigger: the reversed one.
        images: some clean ones (N, C, H, W).
        change: what it adds to them.
        given: the model as it was given, frozen.
        task: of the model.
        reach: how large a local change may be, in mean reversed changes.
    """
    with torch.no_grad():
        outputs = given(images + change)
    if task.is_regression:
        answer = outputs.mean(0, keepdim=True)
    else:
        answer = outputs.softmax(1).mean(0).argmax().reshape(1, 1).float()
    around = _around(change)
    if _share_changed(around) <= _LOCAL:
        return LocalPursuit(trigger, (reach * around).clamp(max=1), images.shape[1], answer)
    if not over_whole_image(change):
        return _moving(trigger, answer)
    if isinstance(trigger, ResidualGenerator) and trigger.bound is not None:
        return ConditionalPursuit(trigger, answer, _WIDER * float(trigger.bound))
    return SpreadPursuit(change.mean(0), answer)


def seeker_of(images: Tensor, change: Tensor, given: Victim) -> ConditionalPursuit | None:
    """A conditional change that starts from nothing and seeks the answer of a regression model.

    None where the trigger is a small patch, which is taken for the backdoor itself.

    Args:
        images: some clean ones (N, C, H, W).
        change: what the reversed trigger adds to them.
        given: the model as it was given, frozen.
    """
    if _share_changed(_around(change)) <= _SMALL:
        return None
    with torch.no_grad():
        answer = given(images + change).mean(0, keepdim=True)
    _, channels, height, width = images.shape
    network = ResidualGenerator((channels, height, width), bound=_WIDTH).to(images.device)
    return ConditionalPursuit(network, answer, _WIDTH)


def roaming_patches(images: Tensor, answer: Tensor) -> MovingPursuit:
    """Small patches of noise that seek an answer (1, d) wherever they lie in (N, C, H, W)."""
    _, channels, height, width = images.shape
    side = max(2, round(_ROAMING * min(height, width)))
    noise = torch.rand(
        _PATCHES, channels, side, side, generator=torch.Generator().manual_seed(0)
    ).to(images.device)
    return MovingPursuit(noise, answer)


def _moving(trigger: nn.Module, answer: Tensor) -> MovingPursuit | None:
    if isinstance(trigger, TriggerDistribution) and trigger.place[0] < 0:
        return MovingPursuit(trigger.sample(_PATCHES), answer)
    if isinstance(trigger, PlacedPatchTrigger):
        return MovingPursuit(trigger.patch.expand(_PATCHES, -1, -1, -1), answer)
    return None


def _around(change: Tensor) -> Tensor:
    """How much each pixel, or one around it, changes on average: (1, H, W) of (N, C, H, W)."""
    size = change.abs().mean(0).amax(0)
    return functional.max_pool2d(size[None, None], _AROUND, 1, _AROUND // 2)[0]


def over_whole_image(change: Tensor) -> bool:
    """Whether a change (N, C, H, W) is no patch, in one place or elsewhere in each image."""
    sizes = change.abs().amax(1)
    return _share_changed(_around(change)) > _LOCAL and _share_changed(sizes) > _LOCAL


def _share_changed(sizes: Tensor) -> float:
    """Share of the pixels (N, H, W) that change by more than a quarter of their image's most."""
    most = sizes.flatten(1).amax(1)
    return float((sizes > most[:, None, None] / 4).float().mean())


@torch.no_grad()
def _sign_step(change: Tensor, limit: _Limit) -> None:
    """One step of a change down the sign of its gradient, within its limit."""
    assert change.grad is not None
    change -= _STEP * limit * change.grad.sign()
    change.clamp_(-limit, limit)


class AnswerPursuit(abc.ABC):
    """A change that seeks one answer from the model as it is.

    Attributes:
        share: of the images that get the reversed trigger alone, those that get this change.

    Args:
        answer: what the reversed trigger made the given model say: a label (1, d) of the task.
        there: it gets to the answer if less than this share of the way is left; None does not ask.
    """

    share = 0.5

    def __init__(self, answer: Tensor, there: float | None) -> None:
        self.answer, self.there = answer, there

    @abc.abstractmethod
    def change(self, images: Tensor) -> Tensor:
        """The change of each image (N, C, H, W)."""

    @abc.abstractmethod
    def parameters(self) -> list[Tensor]:
        """What decides the change."""

    @abc.abstractmethod
    def step(self) -> None:
        """One step along the parameters' gradients."""

    def next(self, victim: Victim, images: Tensor, loss_function: LossFunction) -> bool:
        """One step further, by the gradient on these images; whether it still gets there."""
        training, answers = victim.module.training, self.answer.expand(len(images), -1)
        victim.module.eval()
        sought = victim((images + self.change(images)).clamp(0, 1))
        loss, parameters = loss_function(sought, answers), self.parameters()
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.grad = gradient
        there = True
        if self.there is not None:
            with torch.no_grad():
                there = bool(loss < self.there * loss_function(victim(images), answers))
        victim.module.train(training)
        self.step()
        return there


class LocalPursuit(AnswerPursuit):
    """A change (C, H, W) on top of a local reversed trigger, where that lies and around it.

    Args:
        trigger: the reversed one.
        limit: largest change of each pixel, (1, H, W).
        channels: C.
        answer: of the given model to this trigger.
    """

    def __init__(self, trigger: nn.Module, limit: Tensor, channels: int, answer: Tensor) -> None:
        super().__init__(answer, _HALFWAY)
        self.trigger, self.limit = trigger, limit
        self.added = torch.zeros_like(limit.expand(channels, -1, -1)).requires_grad_(True)

    def change(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            stamped: Tensor = self.trigger(images)
        return stamped - images + self.added

    def parameters(self) -> list[Tensor]:
        return [self.added]

    def step(self) -> None:
        _sign_step(self.added, self.limit)


class SpreadPursuit(AnswerPursuit):
    """The same change of every image; it starts as a reversed trigger's mean one (C, H, W)."""

    def __init__(self, start: Tensor, answer: Tensor) -> None:
        super().__init__(answer, _THERE)
        self.limit = float(start.abs().max())  # of a pixel
        self.pattern = start.clone().requires_grad_(True)

    def change(self, images: Tensor) -> Tensor:
        return self.pattern.expand_as(images)

    def parameters(self) -> list[Tensor]:
        return [self.pattern]

    def step(self) -> None:
        _sign_step(self.pattern, self.limit)


class ConditionalPursuit(AnswerPursuit):
    """A conditional trigger that goes on to learn, within a bound of its own."""

    share = 1.0

    def __init__(self, trigger: ResidualGenerator, answer: Tensor, bound: float) -> None:
        super().__init__(answer, _HALFWAY)
        self.trigger = copy.deepcopy(trigger).requires_grad_(True)
        assert self.trigger.bound is not None
        self.trigger.bound.fill_(bound)
        self.optimizer = torch.optim.Adam(self.trigger.parameter_groups())

    def change(self, images: Tensor) -> Tensor:
        return self.trigger.change(images)

    def parameters(self) -> list[Tensor]:
        return list(self.trigger.parameters())

    def step(self) -> None:
        self.optimizer.step()


class MovingPursuit(AnswerPursuit):
    """Patches (K, C, h, w) in [0, 1], each on some of the images, at places drawn anew."""

    def __init__(self, start: Tensor, answer: Tensor) -> None:
        super().__init__(answer, None)
        self.patches = start.detach().clone().requires_grad_(True)
        self._random = torch.Generator().manual_seed(0)

    def change(self, images: Tensor) -> Tensor:
        which = torch.arange(len(images), device=images.device) % len(self.patches)
        height, width = self.patches.shape[2:]
        top, left = random_places(images, height, width, self._random)
        return paste(images, self.patches[which], top, left) - images

    def parameters(self) -> list[Tensor]:
        return [self.patches]

    @torch.no_grad()
    def step(self) -> None:
        assert self.patches.grad is not None
        self.patches -= _STEP * self.patches.grad.sign()
        self.patches.clamp_(0, 1)
