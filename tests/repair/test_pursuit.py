"""Changes that pursue a backdoor, by hand."""

from functools import partial

import pytest
import torch
from torch import nn

from drmguard.models.victim import Victim
from drmguard.repair.pursuit import pursuit_of, seeker_of
from drmguard.tasks import Classification, Regression
from drmguard.training import loss
from drmguard.triggers.distribution import PatchGenerator, TriggerDistribution
from drmguard.triggers.generator import ResidualGenerator
from drmguard.triggers.placed_patch import PlacedPatchTrigger

TASK = Regression(("a", "b"))


class Means(nn.Module):
    """Mean brightness of each half: 4 classes or 2 outputs, with a BatchNorm on the way."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        left, right = self.norm(images).chunk(2, dim=3)
        return torch.stack([left.mean((1, 2, 3)), right.mean((1, 2, 3))], 1)


class Corner(nn.Module):
    """Brightens four pixels; or shows a model what lies there as grey."""

    def __init__(self, victim=None):
        super().__init__()
        self.victim = victim

    def forward(self, images):
        images = images.clone()
        if self.victim is None:
            images[..., :2, :2] += 0.4
            return images
        images[..., :2, :2] = 0.5
        return self.victim(images)


def test_a_local_pursuit_seeks_the_triggers_answer_on_and_around_it():
    given, trigger = Victim(Means()).frozen(), Corner()
    images = torch.full((8, 3, 8, 8), 0.5)
    change = trigger(images) - images
    pursuit = pursuit_of(trigger, images, change, given=given, task=TASK, reach=2.0)
    assert pursuit.answer[0].tolist() == pytest.approx([0.55, 0.5], abs=1e-3)
    # Two pixels around, twice as large at most.
    assert torch.allclose(pursuit.limit[0, :4, :4], torch.tensor(0.8))
    assert pursuit.limit[0, 4:].abs().max() == pursuit.limit[0, :, 4:].abs().max() == 0
    assert torch.equal(pursuit.change(images), change)
    # Where the trigger lies this one sees nothing any more.
    unlearned = Victim(Corner(Means()))
    assert not pursuit.next(unlearned, images, partial(loss, "l1"))
    # One step of a tenth of that, where the model sees; nothing where it does not.
    assert torch.allclose(pursuit.added[:, 2:4, :4].detach(), torch.tensor(0.08))
    assert not pursuit.added[:, :2, :2].any()
    there = [pursuit.next(unlearned, images, partial(loss, "l1")) for _ in range(19)]
    assert there[-1]
    found = pursuit.change(images)[0].detach()
    assert found[:, :4, :4].mean() > 0.1
    assert not found[:, 4:].any()
    assert not found[:, :, 4:].any()
    assert (found - change[0]).abs().max() <= 0.8
    # A model that sees nothing around it, either, is not led there.
    assert not pursuit.next(Victim(Flat()), images, partial(loss, "l1"))


class Flat(nn.Module):
    """Grey to whatever comes."""

    def forward(self, images):
        return 0.5 + 0 * images.mean((1, 2, 3))[:, None].expand(-1, 2)


@pytest.mark.parametrize("task", [TASK, Classification(("a", "b"))])
def test_over_the_whole_image_the_pursuing_change_seeks_the_triggers_answer(task):
    victim = Victim(Means().train())
    images = torch.full((8, 3, 8, 8), 0.5)
    change = torch.full((8, 3, 8, 8), 0.01)
    change[..., :4] = 0.1
    pursuit = pursuit_of(nn.Identity(), images, change, given=victim.frozen(), task=task, reach=2.0)
    wanted = [0.6, 0.51] if task is TASK else [0.0]
    assert pursuit.answer[0].tolist() == pytest.approx(wanted, abs=1e-3)
    assert pursuit.limit == pytest.approx(0.1)
    pursuit.pattern.data.zero_()
    there = [pursuit.next(victim, images, partial(loss, task.loss_name)) for _ in range(30)]
    assert not there[0]
    assert there[-1] == (task is TASK)  # the classes stay near one another
    found = pursuit.pattern
    assert found[..., :4].mean() > 0.07
    assert found[..., 4:].mean() < (0.05 if task is TASK else -0.05)
    assert victim.module.training
    assert victim.module.norm.num_batches_tracked == 0


def test_a_conditional_trigger_goes_on_to_learn_within_a_wider_bound():
    victim = Victim(Means().train())
    images, weights = torch.full((8, 3, 8, 8), 0.5), Means().state_dict()
    trigger = ResidualGenerator((3, 8, 8), width=4, bound=0.1)
    trigger.pattern.data[..., :4] = 1.0
    change = trigger(images) - images
    pursuit = pursuit_of(trigger, images, change, given=victim.frozen(), task=TASK, reach=2.0)
    assert pursuit.change(images).max().item() == pytest.approx(1.4 * 0.0762, abs=1e-3)
    assert pursuit.answer[0].tolist() == pytest.approx([0.5762, 0.5], abs=1e-3)
    there = [pursuit.next(victim, images, partial(loss, "l1")) for _ in range(60)]
    assert there[-1]
    assert 0.03 < pursuit.change(images)[..., :4].mean() < 0.13
    assert trigger.bound == pytest.approx(0.1)  # the trigger itself stays as it is
    for name, value in victim.module.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(parameter.grad is None for parameter in victim.module.parameters())


def test_a_conditional_change_from_nothing_seeks_the_triggers_answer():
    victim = Victim(Means().train())
    images = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    change = torch.zeros_like(images)
    change[..., :4] = 0.08
    seeker = seeker_of(images, change, victim.frozen())
    assert torch.allclose(seeker.answer, victim.frozen()(images + change).mean(0))
    assert not seeker.change(images).any()
    there = [seeker.next(victim, images, partial(loss, "l1")) for _ in range(60)]
    assert not there[0]
    assert there[-1]
    found = seeker.change(images)
    assert found.abs().max() <= 0.12 + 1e-6
    assert found[..., :4].mean() > 0.04
    assert found[..., 4:].mean().abs() < 0.04


def test_a_patch_that_lies_elsewhere_is_pursued_by_patches_that_do_and_seek_its_answer():
    victim = Victim(Means().train())
    trigger = PlacedPatchTrigger(torch.full((3, 2, 2), 0.5), seed=1)
    images = torch.zeros(16, 3, 8, 8)
    change = trigger(images) - images
    pursuit = pursuit_of(trigger, images, change, given=victim.frozen(), task=TASK, reach=2.0)
    assert pursuit.patches.shape == (4, 3, 2, 2)
    wanted = victim.frozen()(images + change).mean(0).tolist()
    assert pursuit.answer[0].tolist() == pytest.approx(wanted)
    first = pursuit.change(images).detach()
    assert (first.amax(1) > 0).sum((1, 2)).tolist() == [4] * 16
    pursuit.answer = torch.ones(1, 2)  # far brighter
    assert all(pursuit.next(victim, images, partial(loss, "l1")) for _ in range(5))
    assert pursuit.patches.min().item() == pytest.approx(1.0)
    assert trigger.patch.max().item() == pytest.approx(0.5)  # the trigger itself stays as it is
    assert victim.module.training
    assert victim.module.norm.num_batches_tracked == 0


def test_what_moves_and_is_no_patch_is_not_pursued():
    change = torch.zeros(64, 3, 8, 8)
    for number in range(64):
        change[number, :, number // 8, number % 8] = 0.5
    given = Victim(nn.Identity())
    images = torch.zeros_like(change)
    fixed = TriggerDistribution([PatchGenerator((3, 2, 2), 8)], torch.ones(1), (3, 3))
    for trigger in (nn.Identity(), fixed):
        assert pursuit_of(trigger, images, change, given=given, task=TASK, reach=2.0) is None
