"""Fine-tuning on clean images, with or without reversed triggers: the repair of DRMGuard (3.5).

*Unlearning* trains on D_be ∪ {(x', y)}: clean images, and the same stamped with the reversed
trigger, all under their correct labels.  When to stop is chosen on clean images held out from
training, and on the reversed trigger over those; a true trigger is never known here.  The latest
check counts that is not surely worse than the best one: a longer training removes more, and the few
held-out images cannot tell small differences.  Without a trigger it is plain *fine-tuning*, the
strong baseline, which runs to its end: by the clean error alone it would often end before it began.

In half of unlearning's loss the given model's own answers to the clean images take the labels'
place (distillation): a thousand images are soon learned by heart, and those answers hold what the
full training set taught.  Half of every batch, stamped or not, are other views of the images, moved
a little, in other light, half of them mirrored, whose label these answers are; but only where the
given model's answers to moved and relit images are about as right as those to the images.  Dropout
rests: no network with units left out at random gives those answers, and trained to give them it
gives ever flatter ones.

A quarter of every batch also carries a *pursuing* change (:mod:`drmguard.repair.pursuit`), which
follows the backdoor as it moves away from the reversed trigger.  Over the whole image another
quarter carries a random warp, wave or blend.  Of a regression model a conditional change that
starts from nothing seeks the same answer, and takes a quarter of the batch where it gets there:
what was found may be the backdoor in part, unless it is a small patch.  Every second step these
seek another answer, as one of the labels, in half of these small patches that roam the images do:
hardened against one answer alone, a model goes elsewhere the more easily, and looks attacked.
While the held-out clean error is worse than it was, what goes over the whole image rests.  So does
a trigger that does, where the first one is a patch: that may be another way to what the patch
calls, and when to stop the patch decides alone.

What unlearning looks at and keeps of a regression model is a moving average of the weights: those
of single steps scatter.  If the held-out clean error still ends more than 4 % above the given
model's, the weights move part of the way back to the given ones: on the straight line between the
two the clean error comes down sooner than the backdoor comes up (Wortsman et al., 2022, for
fine-tuning as such).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from drmguard.augmentation import mirrored
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.repair.held_out import (
    Errors,
    Judge,
    Repaired,
    copied,
    hold_out,
    surely_above,
    weights,
)
from drmguard.repair.pursuit import (
    AnswerPursuit,
    ConditionalPursuit,
    LocalPursuit,
    MovingPursuit,
    SpreadPursuit,
    over_whole_image,
    pursuit_of,
    roaming_patches,
    seeker_of,
)
from drmguard.repair.whole_image import other_views, random_change
from drmguard.search.passes import LARGE_SIDE
from drmguard.tasks import Task
from drmguard.training import Batch, LossFunction, TrainingSettings, clean_loss, train

Progress = Callable[[str, int, int], None]
_VIEWS, _ANSWERS = 1, 2  # tell the draws of other views and answers from those of the doses
# Every so many steps what pursues an answer over the whole image seeks another one, every so many
# patches that roam the images do; each is kept for so many of these steps.
_ELSEWHERE, _ROAMING, _KEPT = 2, 4, 8
# Images that tell whether a trigger goes over the whole image.
_SHOWN = 32
# The error on other views may be so many times that on the images.
_RIGHT = 1.6
# While the held-out clean error is so many times that of the given model, the pursuit rests, and at
# the end the weights move back by these shares of the way, until it is not; but not so far that the
# error under the reversed triggers grows to so many times what it was.
_WORSE = 1.04
_BACK = (0.05, 0.1, 0.15, 0.2)
_REGAINED = 1.3


@dataclass(frozen=True)
class RepairSettings:
    """How to repair.

    Attributes:
        steps: optimiser steps at most.
        batch_size: images a step, half of which are stamped.
        learning_rate: of Adam, at the start; it falls to zero along a cosine.
        held_out: share of the images that is not trained on.
        checks: how often the held-out images are looked at.
        doses: the reversed change is scaled by a factor drawn from this range for every step, since
            a reversed trigger is seldom exactly as strong as the planted one.
        distillation: share of unlearning's loss that compares with the given model's answers to the
            clean images instead of the labels; 0 does without, and without other views.
        pursuit: how large the pursuing change may be, in mean reversed changes (over the whole
            image, as large as the largest); 0 does without, and without random changes.
        averaging: how much of the weights' moving average is kept from step to step; 0 takes the
            weights as they are.
        seed: of the split, the batches and the doses.
    """

    steps: int = 400
    batch_size: int = 64
    learning_rate: float = 3e-4
    held_out: float = 0.2
    checks: int = 10
    doses: tuple[float, float] = (0.5, 1.5)
    distillation: float = 0.5
    pursuit: float = 2.0
    averaging: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.checks < 1 or self.steps < self.checks:
            raise InputError(
                "a repair needs a held-out share between 0 and 1, and at least as many steps as "
                f"checks, not {self.held_out}, {self.steps} and {self.checks}"
            )
        if not 0 <= self.distillation <= 1:
            raise InputError(f"distillation must lie in 0 to 1, not {self.distillation}")
        if not 0 <= self.averaging < 1:
            raise InputError(f"averaging must lie in 0 to below 1, not {self.averaging}")


def unlearning_settings(task: Task, image_shape: tuple[int, int, int], seed: int) -> RepairSettings:
    """What unlearning does by default: twice the steps of fine-tuning, but on large images.

    Of regression models it averages the weights over about the last quarter of the steps.
    Classifiers take fewer and larger steps: small ones leave more of the backdoor (docs/repair.md).
    """
    if not task.is_regression:
        return RepairSettings(steps=400, learning_rate=1e-3, seed=seed)
    if min(image_shape[1:]) >= LARGE_SIDE:
        return RepairSettings(steps=400, averaging=0.99, seed=seed)
    return RepairSettings(steps=800, averaging=0.995, seed=seed)


def unlearn(
    victim: Victim,
    task: Task,
    images: ImageSet,
    triggers: Sequence[nn.Module],
    settings: RepairSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Repaired:
    """Train a copy of ``victim`` to give stamped images their correct labels.

    Args:
        victim: the model; it is not changed.
        task: gives the loss and the error.
        images: clean images with correct labels.
        triggers: reversed triggers, or samplers of a distribution of them; images to images.  The
            first is the one that the scan speaks of.
        settings: how to train.
        device: where to train.
        progress: called with (stage, steps done, steps).

    Raises:
        InputError: too few images, or no trigger.
    """
    if not triggers:
        raise InputError("unlearning needs a reversed trigger, but none was given; scan first")
    return _tune(victim, task, images, triggers, settings, device, progress, unlearned=True)


def fine_tune(
    victim: Victim,
    task: Task,
    images: ImageSet,
    triggers: Sequence[nn.Module] = (),
    settings: RepairSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    at_zero: Mapping[str, Sequence[int]] | None = None,
) -> Repaired:
    """Train a copy of ``victim`` on the clean images alone; triggers only measure, if given.

    ``at_zero`` names parameters and the rows of each that were pruned and stay so; the rest as
    for :func:`unlearn`.
    """
    return _tune(victim, task, images, triggers, settings, device, progress, at_zero=at_zero)


def _tune(
    victim: Victim,
    task: Task,
    images: ImageSet,
    triggers: Sequence[nn.Module],
    settings: RepairSettings | None,
    device: torch.device | str,
    progress: Progress | None,
    *,
    unlearned: bool = False,
    at_zero: Mapping[str, Sequence[int]] | None = None,
) -> Repaired:
    settings = settings or RepairSettings()
    training, held_out = hold_out(images, settings.held_out, settings.seed)
    twin = copied(victim, device)
    average = None
    kept_victim = twin
    if settings.averaging:
        average = AveragedModel(
            twin.module, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging), use_buffers=True
        )
        kept_victim = Victim(average.module, victim.input_format)
        kept_victim.head_name = victim.head_name
    triggers = [trigger.to(device) for trigger in triggers]
    beside = frozenset[int]()
    if unlearned:
        beside = _beside(triggers, held_out.batch(slice(0, _SHOWN))[0].to(device))
    deciding = [trigger for number, trigger in enumerate(triggers) if number not in beside]
    judge = Judge(kept_victim, task, held_out, deciding, device)
    before = judge.errors()
    given_state = weights(twin)
    best, best_state, best_step = before, given_state, 0
    given = lowest = before.to_minimise(unlearned)
    every = settings.steps // settings.checks
    runs_out = not unlearned and at_zero is None

    def look(done: int, total: int, _: float) -> None:
        nonlocal best, best_state, best_step, lowest
        if progress is not None:
            progress("repairing", done, total)
        if average is not None:
            average.update_parameters(twin.module)
        if done == total or (done % every == 0 and not runs_out):
            errors = judge.errors()
            if unlearning is not None:
                unlearning.pursuing = errors.clean <= _WORSE * before.clean
            found = errors.to_minimise(unlearned)
            if runs_out or (found.mean() < given.mean() and not surely_above(found, lowest)):
                best, best_state, best_step = errors, weights(kept_victim), done
            if found.mean() < lowest.mean():
                lowest = found

    unlearning = None
    if unlearned:
        views = _views_hold(judge, settings.seed)
        labels = torch.from_numpy(training.labels)
        unlearning = _Unlearning(
            victim.frozen(device), task, triggers, settings, labels, views=views, beside=beside
        )
    parameters = dict(twin.module.named_parameters())
    for name, rows in (at_zero or {}).items():
        _hold(parameters[name], rows)
    train(
        twin,
        training,
        task,
        TrainingSettings(
            steps=settings.steps,
            batch_size=min(settings.batch_size, len(training)),
            learning_rate=settings.learning_rate,
            seed=settings.seed,
        ),
        batch_loss=clean_loss if unlearning is None else unlearning.loss,
        device=device,
        progress=look,
    )
    kept = f"training step {best_step} of {settings.steps}"
    kept_victim.module.load_state_dict(best_state)
    if unlearned:
        best, share = _moved_back(kept_victim, given_state, judge, before, best)
        if share:
            kept += f", moved {share:.0%} of the way back"
    return Repaired(
        victim=kept_victim.cpu().eval(),
        held_out=held_out,
        before=before,
        after=best,
        kept=kept,
        changed=best_step > 0,
    )


@torch.no_grad()
def _beside(triggers: Sequence[nn.Module], images: Tensor) -> frozenset[int]:
    """Numbers of the triggers over the whole image, where the first one is a patch."""
    whole = [over_whole_image(trigger(images) - images) for trigger in triggers]
    return frozenset() if whole[0] else frozenset(n for n, one in enumerate(whole) if one)


def _moved_back(
    victim: Victim, given: Mapping[str, Tensor], judge: Judge, before: Errors, after: Errors
) -> tuple[Errors, float]:
    """Move an unlearned victim's weights back to the given ones, as far as its clean error asks.

    The errors there, and the share of the way.
    """
    unlearned = weights(victim)
    assert after.stamped is not None  # there is a trigger to unlearn
    most, moved, share = _REGAINED * after.stamped, after, 0.0
    for further in _BACK:
        if moved.clean <= _WORSE * before.clean:
            break
        victim.module.load_state_dict(_between(unlearned, given, further))
        errors = judge.errors()
        assert errors.stamped is not None
        if errors.stamped > most:
            break
        moved, share = errors, further
    victim.module.load_state_dict(_between(unlearned, given, share))
    return moved, share


def _between(
    state: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """A state so far on the way to another; counters stay."""
    return {
        name: value.lerp(other[name], share) if value.is_floating_point() else value
        for name, value in state.items()
    }


def _views_hold(judge: Judge, seed: int) -> bool:
    """Whether the model as given reads other views of the held-out images about as well."""
    views = other_views(judge.images, np.random.default_rng((seed, _VIEWS)))
    return judge.clean_error(views) <= _RIGHT * judge.clean_error()


def _hold(parameter: nn.Parameter, rows: Sequence[int]) -> None:
    """Keep these rows as they are: Adam moves nothing whose gradient is always zero."""
    kept = torch.ones(len(parameter), device=parameter.device)
    kept[list(rows)] = 0
    shape = (-1,) + (1,) * (parameter.ndim - 1)
    parameter.register_hook(lambda gradient: gradient * kept.view(shape))


def _dropout_rests(module: nn.Module) -> None:
    """Leave in training mode what normalises by the batch, and nothing that draws at random.

    For every step anew: whoever looks at the model in between sets one mode for all its parts.
    """
    for part in module.modules():
        part.training = isinstance(part, _NormBase)


class _Unlearning:
    """Half of every batch carries a reversed trigger; all labels stay correct.

    Args:
        given: the model as it was given, frozen.
        task: compares its answers with those of the model in training.
        triggers: reversed ones.
        settings: how to train.
        labels: (N, d) of the images, as other answers to seek.
        views: whether half of the batch are other views of its images.
        beside: numbers of the triggers over the whole image, where the first one is a patch.

    Attributes:
        pursuing: whether what goes over the whole image does not rest at present.
    """

    def __init__(
        self,
        given: Victim,
        task: Task,
        triggers: Sequence[nn.Module],
        settings: RepairSettings,
        labels: Tensor,
        *,
        views: bool = True,
        beside: Collection[int] = (),
    ) -> None:
        self.labels, self.views, self.beside = labels, views, beside
        self.given, self.task, self.triggers, self.settings = given, task, triggers, settings
        self.pursuits: dict[tuple[int, bool], AnswerPursuit | None] = {}
        self.seekers: dict[bool, ConditionalPursuit | None] = {}
        self.roaming: MovingPursuit | None = None
        self.pursuing = True

    def loss(self, victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
        share = self.settings.distillation
        viewed = torch.zeros(len(batch.images), dtype=torch.bool, device=batch.images.device)
        if share and self.views:
            batch, viewed = self._other_views(batch)
        stamped = self._stamped(victim, batch, loss_function)
        _dropout_rests(victim.module)
        outputs = victim(stamped)
        if not share:
            return loss_function(outputs, batch.labels)
        with torch.no_grad():
            answers = self.given(batch.images)
        if self.task.is_regression:
            own, of_views = loss_function(outputs, answers), answers
        else:
            own = functional.cross_entropy(outputs, answers.softmax(1))
            of_views = answers.argmax(1, keepdim=True).to(batch.labels)
        labels = torch.where(viewed[:, None], of_views, batch.labels)
        return (1 - share) * loss_function(outputs, labels) + share * own

    def _other_views(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Half of the images, drawn at random, in other views; and which these are (N,)."""
        random = np.random.default_rng((self.settings.seed, batch.step, _VIEWS))
        views = mirrored(other_views(batch.images, random), random)
        viewed = torch.from_numpy(random.random(len(views)) < 0.5).to(views.device)
        images = torch.where(viewed[:, None, None, None], views, batch.images)
        return dataclasses.replace(batch, images=images), viewed

    def _stamped(self, victim: Victim, batch: Batch, loss_function: LossFunction) -> Tensor:
        random = np.random.default_rng((self.settings.seed, batch.step))
        half = len(batch.images) // 2
        originals, clean = batch.images[:half], batch.images[half:]
        if self.settings.pursuit and not self.pursuits:
            self._begin(originals)
        number = self._drawn(random)
        dose = float(random.uniform(*self.settings.doses))
        changes = dose * self._change(number, originals)
        if not self.settings.pursuit:
            return torch.cat([(originals + changes).clamp(0, 1), clean])
        pursuit, seeker = self._pursuit(number, batch.step)
        quarter = half // 2
        last = slice(quarter, half)
        in_place = isinstance(pursuit, LocalPursuit | MovingPursuit)
        seen = originals if isinstance(pursuit, MovingPursuit) else originals[last]
        if (
            pursuit is not None
            and (in_place or self.pursuing)
            and pursuit.next(victim, seen, loss_function)
        ):
            where = last if in_place else slice(0, round(pursuit.share * quarter))
            changes[where] = pursuit.change(originals[where]).detach()
        stamped = (originals + changes).clamp(0, 1)
        if isinstance(pursuit, SpreadPursuit | ConditionalPursuit):
            stamped[last] = random_change(stamped[last], random)
        if seeker and self.pursuing and seeker.next(victim, originals[last], loss_function):
            stamped[last] = (originals[last] + seeker.change(originals[last]).detach()).clamp(0, 1)
        return torch.cat([stamped, clean])

    @torch.no_grad()
    def _change(self, number: int, originals: Tensor) -> Tensor:
        """What a trigger adds to images."""
        stamped: Tensor = self.triggers[number](originals)
        return stamped - originals

    def _begin(self, originals: Tensor) -> None:
        """Make what pursues the backdoor of each trigger, and what seeks its answer besides."""
        for number, trigger in enumerate(self.triggers):
            change = self._change(number, originals)
            make = partial(
                pursuit_of,
                trigger,
                originals,
                change,
                given=self.given,
                task=self.task,
                reach=self.settings.pursuit,
            )
            self.pursuits[number, False] = own = make()
            if not self.task.is_regression:
                continue
            # One that lies where the trigger does seeks no other answer.
            self.pursuits[number, True] = own if isinstance(own, LocalPursuit) else make()
            for elsewhere in (False, True):
                if self.seekers.get(elsewhere) is None:
                    self.seekers[elsewhere] = seeker_of(originals, change, self.given)
        if self.seekers.get(True) is not None:
            self.roaming = roaming_patches(originals, self.labels[:1].to(originals.device))

    def _drawn(self, random: np.random.Generator) -> int:
        """The trigger of a step; those beside a patch rest with what goes over the whole image."""
        number = int(random.integers(len(self.triggers)))
        if self.pursuing or number not in self.beside:
            return number
        others = [n for n in range(len(self.triggers)) if n not in self.beside]
        return others[number % len(others)]

    def _pursuit(self, number: int, step: int) -> tuple[AnswerPursuit | None, AnswerPursuit | None]:
        """What pursues the backdoor of a trigger at a step, and what seeks its answer besides.

        Every second step both seek another answer, unless the trigger is a small patch; in half of
        these roaming patches do.
        """
        elsewhere = step % _ELSEWHERE == 0 and self.seekers.get(True) is not None
        pursuit = self.pursuits[number, elsewhere]
        seeker: AnswerPursuit | None = self.seekers.get(elsewhere)
        if not elsewhere:
            return pursuit, seeker
        period = _ELSEWHERE
        if step % _ROAMING == 0:
            period, seeker = _ROAMING, self.roaming
            if not isinstance(pursuit, LocalPursuit):
                pursuit = None
        random = np.random.default_rng((self.settings.seed, step // (period * _KEPT), _ANSWERS))
        row = int(random.integers(len(self.labels)))
        for one in (pursuit, seeker):
            if one is not None and not isinstance(one, LocalPursuit):
                one.answer = self.labels[[row]].to(one.answer)
        return pursuit, seeker
