"""Unlearning on a small network that was really backdoored, and its edges."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.attacks.attack import AttackContext
from drmguard.attacks.named import make_attack
from drmguard.augmentation import mirrored
from drmguard.card import measure
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.repair.fine_tuning import (
    RepairSettings,
    _beside,
    _moved_back,
    _Unlearning,
    _views_hold,
    fine_tune,
    unlearn,
)
from drmguard.repair.held_out import Errors, Judge, weights
from drmguard.repair.pursuit import MovingPursuit
from drmguard.repair.whole_image import other_views
from drmguard.tasks import Classification, Regression
from drmguard.training import Batch, TrainingSettings, loss, train
from drmguard.triggers.placed_patch import PlacedPatchTrigger

TASK = Regression(("a", "b"))
LABELS = torch.zeros(1, 2)
TARGET = torch.tensor([2.0, -1.5])


def images(count, seed) -> ImageSet:
    return labelled_by(AnalyticModel(planted=False), smooth_images(count, seed=seed))


def network():
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 12, 4, 4), nn.ReLU(), nn.Conv2d(12, 16, 2, 2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, 2)),
    )
    victim = Victim(module)
    victim.find_head(torch.rand(2, 3, 32, 32))
    return victim


@pytest.fixture(scope="module")
def backdoored():
    train_set = images(400, seed=1)
    attack = make_attack("badnets", AttackContext(train_set, TASK, TARGET, 0.3), {"side": 6})
    victim = network()
    settings = TrainingSettings(steps=700, batch_size=64, learning_rate=3e-3)
    train(victim, train_set, TASK, settings, batch_loss=attack.loss)
    return victim, attack.backdoors[0]


def test_unlearning_removes_the_trigger_and_keeps_the_rest(backdoored):
    victim, backdoor = backdoored
    before = measure(victim, TASK, images(100, seed=2), [backdoor])
    assert before["AE"] < 0.6
    weights = {k: v.clone() for k, v in victim.module.state_dict().items()}
    settings = RepairSettings(steps=300, batch_size=32, learning_rate=1e-3)
    repaired = unlearn(victim, TASK, images(100, seed=3), [backdoor.trigger], settings)
    after = measure(repaired.victim, TASK, images(100, seed=2), [backdoor])
    assert after["AE"] > 1.2
    assert after["DAE"] < 0.2 * before["DAE"]
    assert after["RE"] < before["RE"] + 0.05
    assert repaired.changed
    assert repaired.after.stamped < 0.5 * repaired.before.stamped
    assert all(torch.equal(v, weights[k]) for k, v in victim.module.state_dict().items())
    again = unlearn(victim, TASK, images(100, seed=3), [backdoor.trigger], settings)
    assert torch.equal(again.after.of_stamped, repaired.after.of_stamped)


class Half(nn.Module):
    """The upper half of what a trigger changes."""

    def __init__(self, trigger):
        super().__init__()
        self.trigger = trigger

    def forward(self, images):
        change = self.trigger(images) - images
        rows = change.abs().amax((0, 1, 3)).nonzero()[:, 0]
        change[:, :, rows[len(rows) // 2] :] = 0
        return images + change


def test_pursuit_unlearns_what_the_reversed_trigger_lacks(backdoored):
    victim, backdoor = backdoored
    found, after = Half(backdoor.trigger), {}
    for pursuit in (0.0, 2.0):
        settings = RepairSettings(steps=300, batch_size=32, learning_rate=1e-3, pursuit=pursuit)
        repaired = unlearn(victim, TASK, images(100, seed=3), [found], settings)
        after[pursuit] = measure(repaired.victim, TASK, images(100, seed=2), [backdoor])
    assert after[2.0]["DAE"] < 0.7 * after[0.0]["DAE"]
    assert after[2.0]["RE"] < after[0.0]["RE"] + 0.05


def test_distillation_by_hand(backdoored):
    victim, backdoor = backdoored
    given = victim.frozen()
    batch = Batch(0, np.arange(8), *images(8, seed=3).batch(slice(0, 8)))
    with torch.no_grad():
        losses = [
            float(
                _Unlearning(
                    given,
                    TASK,
                    [backdoor.trigger],
                    RepairSettings(distillation=share, pursuit=0, doses=(1, 1)),
                    LABELS,
                ).loss(victim, batch, torch.nn.functional.l1_loss)
            )
            for share in (0.0, 0.25, 1.0)
        ]
        # Some are other views, whose label is the answer; then half is stamped.
        random = np.random.default_rng((0, 0, 1))
        views = mirrored(other_views(batch.images, random), random)
        viewed = torch.from_numpy(random.random(8) < 0.5)
        assert viewed[:4].any()
        assert viewed[4:].any()
        assert not viewed.all()
        shown = torch.where(viewed[:, None, None, None], views, batch.images)
        answers = given(shown)
        outputs = given(torch.cat([backdoor.trigger(shown[:4]), shown[4:]]))
        own = float((outputs - answers).abs().mean())
        labels = torch.where(viewed[:, None], answers, batch.labels)
        labelled = float((outputs - labels).abs().mean())
        stamped = torch.cat([backdoor.trigger(batch.images[:4]), batch.images[4:]])
        plain = float((given(stamped) - batch.labels).abs().mean())
    assert losses[0] == pytest.approx(plain, rel=1e-3)
    assert losses[2] == pytest.approx(own, rel=1e-3)
    assert losses[1] == pytest.approx(0.75 * labelled + 0.25 * own, rel=1e-3)


def test_a_patch_at_random_places_is_not_pursued():
    patch = PlacedPatchTrigger(torch.ones(3, 3, 3))
    settings = RepairSettings(doses=(1, 1), distillation=0)
    unlearning = _Unlearning(Victim(nn.Identity()), TASK, [patch], settings, LABELS)
    pixels = torch.rand(64, 3, 32, 32) * 0.5
    batch = Batch(1, np.arange(64), pixels, torch.zeros(64, 2))
    change = (unlearning._stamped(Victim(nn.Identity()), batch, partial(loss, "l1")) - pixels) != 0
    assert (change[:32].any(1).sum((1, 2)) == 9).all()
    assert not change[32:].any()


class Corner(nn.Module):
    """Ten times the brightness of two corners, or what a light of its own does not change."""

    def __init__(self, *, steady):
        super().__init__()
        self.steady = steady

    def forward(self, images):
        corners = torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], 1)
        return (corners > 0.5).float() + 0.1 if self.steady else 10 * corners


@pytest.mark.parametrize("steady", [True, False])
def test_other_views_are_used_where_the_given_answers_to_them_are_right(steady):
    pixels = np.zeros((60, 3, 8, 8), np.uint8)
    pixels[::2] = 255
    labels = Corner(steady=steady)(torch.from_numpy(pixels / 255)).numpy() - 0.1
    held_out = ImageSet(pixels, labels.astype(np.float32))
    judge = Judge(Victim(Corner(steady=steady)), TASK, held_out, [], "cpu")
    assert _views_hold(judge, seed=0) == steady
    given = Victim(nn.Flatten()).frozen()
    settings = RepairSettings(distillation=1.0, pursuit=0, doses=(0, 0))
    unlearning = _Unlearning(given, TASK, [nn.Identity()], settings, LABELS, views=steady)
    batch = Batch(0, np.arange(64), torch.rand(64, 3, 2, 2), torch.zeros(64, 12))
    seen = []

    def noting(outputs, labels):
        seen.append(outputs)
        return (outputs - labels).abs().mean()

    unlearning.loss(given, batch, noting)
    changed = (seen[0] != batch.images.flatten(1)).any(1)
    assert 16 < changed.sum() < 48 if steady else not changed.any()


def test_distillation_of_a_classifier_compares_probabilities():
    task = Classification(("a", "b"))
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    victim = Victim(module)
    victim.find_head(torch.rand(2, 3, 2, 2))
    pixels = torch.rand(4, 3, 2, 2)
    batch = Batch(0, np.arange(4), pixels, torch.zeros(4, 1))
    settings = RepairSettings(distillation=1.0, pursuit=0)
    unlearning = _Unlearning(victim.frozen(), task, [nn.Identity()], settings, LABELS, views=False)
    value = unlearning.loss(victim, batch, lambda outputs, labels: outputs.sum() * 0)
    entropy = torch.distributions.Categorical(logits=victim(pixels).detach()).entropy().mean()
    assert float(value.detach()) == pytest.approx(float(entropy), rel=1e-4)


def test_dropout_rests_while_batches_are_normalised():
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten()),
        *(nn.Dropout(0.5), nn.Linear(4, 2)),
    )
    given = Victim(copy.deepcopy(module).eval())
    victim = Victim(module.train())
    batch = Batch(0, np.arange(16), torch.rand(16, 3, 2, 2), torch.zeros(16, 2))
    settings = RepairSettings(distillation=1.0, pursuit=0, doses=(0, 0))
    unlearning = _Unlearning(given.frozen(), TASK, [nn.Identity()], settings, LABELS, views=False)
    losses = {unlearning.loss(victim, batch, partial(loss, "l1")).item() for _ in range(4)}
    assert len(losses) == 1
    assert module[1].num_batches_tracked == 4


class Brightness(nn.Module):
    """Mean brightness, twice."""

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None].expand(-1, 2)


class Brighter(nn.Module):
    def forward(self, images):
        return images + 0.1


def test_a_spread_trigger_has_random_changes_on_top_in_a_quarter_of_the_batch():
    pixels = torch.rand(16, 3, 32, 32) * 0.5 + 0.2
    victim = Victim(Brightness())
    unlearning = _Unlearning(victim.frozen(), TASK, [Brighter()], RepairSettings(), LABELS)
    batch = Batch(5, np.arange(16), pixels, torch.zeros(16, 2))
    stamped = unlearning._stamped(victim, batch, partial(loss, "l1"))
    assert torch.equal(stamped[8:], pixels[8:])
    change = stamped - pixels
    assert change[:2].abs().max() <= 0.15 + 1e-6  # pursuing, or the trigger where it is lost
    assert change[2:4].std() < 1e-6
    assert 0.05 < change[2:4].mean() < 0.15
    assert all(change[4:8].flatten(1).std(1) > 1e-3)
    unlearning.pursuing = False  # the clean error has grown
    change = unlearning._stamped(victim, batch, partial(loss, "l1")) - pixels
    assert change[:4].std() < 1e-6


def test_every_second_step_another_answer_is_sought_in_half_of_these_by_roaming_patches():
    pixels = torch.rand(16, 3, 32, 32) * 0.5 + 0.2
    victim, labels = Victim(Brightness()), torch.rand(50, 2)
    triggers = [Brighter(), BrightCorner(4)]
    unlearning = _Unlearning(victim.frozen(), TASK, triggers, RepairSettings(), labels)
    unlearning._begin(pixels)
    own = victim(pixels + 0.1).mean(0, keepdim=True).detach()
    sought = []
    for step in range(80):
        pursuit, seeker = unlearning._pursuit(0, step)
        assert isinstance(seeker, MovingPursuit) == (step % 4 == 0)
        assert (pursuit is None) == (step % 4 == 0)
        if step % 2:
            assert torch.allclose(pursuit.answer, own, atol=1e-5)
        else:
            sought.append(seeker.answer)
            assert (labels == seeker.answer).all(1).any()
        if pursuit is not None:
            assert torch.equal(pursuit.answer, seeker.answer)
    assert len({tuple(answer[0].tolist()) for answer in sought}) == 5  # each is kept for a while
    # A small patch is the backdoor itself: its pursuit seeks no answer.
    alone = _Unlearning(victim.frozen(), TASK, triggers[1:], RepairSettings(), labels)
    alone._begin(pixels)
    pairs = [alone._pursuit(0, step) for step in range(8)]
    assert all(seeker is None for _, seeker in pairs)
    assert all(pursuit is pairs[0][0] for pursuit, _ in pairs)


def test_a_trigger_over_the_whole_image_rests_beside_a_patch_while_the_clean_error_is_worse():
    some = torch.rand(32, 3, 32, 32) * 0.5 + 0.2
    triggers = [BrightCorner(4), Brighter()]
    assert _beside(triggers, some) == {1}
    assert _beside(triggers[::-1], some) == _beside(triggers[:1], some) == set()
    frozen = Victim(Brightness()).frozen()
    unlearning = _Unlearning(frozen, TASK, triggers, RepairSettings(), LABELS, beside={1})

    def drawn():
        return {unlearning._drawn(np.random.default_rng(seed)) for seed in range(20)}

    assert drawn() == {0, 1}
    unlearning.pursuing = False
    assert drawn() == {0}


class BrightCorner(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side

    def forward(self, images):
        stamped = images.clone()
        stamped[:, :, : self.side, : self.side] = 1
        return stamped


@pytest.mark.parametrize(
    ("task", "side", "is_sought"),
    [(TASK, 10, True), (TASK, 4, False), (Classification(("a", "b")), 10, False)],
)
def test_another_way_is_sought_of_regression_where_the_trigger_is_no_small_patch(
    task, side, is_sought
):
    pixels = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    victim = Victim(Brightness())
    settings = RepairSettings(doses=(1, 1), pursuit=1e-6)
    unlearning = _Unlearning(victim.frozen(), task, [BrightCorner(side)], settings, LABELS)
    batch = Batch(5, np.arange(16), pixels, torch.zeros(16, 2 if task is TASK else 1))
    loss_function = partial(loss, task.loss_name)
    for _ in range(30):
        change = (unlearning._stamped(victim, batch, loss_function) - pixels).detach()
    assert not change[:4, :, 12:, 12:].any()
    elsewhere = change[4:8, :, 12:, 12:].abs()
    assert elsewhere.max() <= 0.12 + 1e-6
    assert bool(elsewhere.any()) == is_sought
    unlearning.pursuing = False  # the clean error has grown
    change = unlearning._stamped(victim, batch, loss_function) - pixels
    assert not change[:8, :, 12:, 12:].any()


def test_the_pursuit_rests_while_the_clean_error_is_worse(backdoored, monkeypatch):
    victim, backdoor = backdoored
    seen = []
    stamped = _Unlearning._stamped

    def noting(self, *given):
        seen.append(self.pursuing)
        return stamped(self, *given)

    monkeypatch.setattr(_Unlearning, "_stamped", noting)
    for rate, rests in ((1e-6, False), (0.03, True)):
        seen.clear()
        settings = RepairSettings(steps=40, checks=4, batch_size=16, learning_rate=rate)
        unlearn(victim, TASK, images(60, seed=3), [backdoor.trigger], settings)
        assert (not all(seen)) == rests


def test_fine_tuning_sees_no_trigger(backdoored):
    victim, _ = backdoored
    settings = RepairSettings(steps=20, checks=2, batch_size=32)
    repaired = fine_tune(victim, TASK, images(60, seed=3), (), settings)
    assert repaired.before.stamped is None
    assert repaired.kept == "training step 20 of 20"


def test_fine_tuning_runs_to_its_end_though_the_clean_error_grows(backdoored):
    victim, _ = backdoored
    settings = RepairSettings(steps=21, checks=2, batch_size=32, learning_rate=0.03)
    repaired = fine_tune(victim, TASK, images(60, seed=3), (), settings)
    assert repaired.after.clean > repaired.before.clean
    assert repaired.kept == "training step 21 of 21"


def test_what_is_kept_is_the_average_of_the_weights(backdoored):
    victim, backdoor = backdoored
    repaired = {}
    for averaging in (0.0, 0.5, 0.999):
        settings = RepairSettings(steps=40, checks=2, batch_size=16, pursuit=0, averaging=averaging)
        given = (victim, TASK, images(60, seed=3), [backdoor.trigger], settings)
        repaired[averaging] = unlearn(*given).victim.module.state_dict()
    far = {
        averaging: sum(
            float((value - victim.module.state_dict()[name]).square().sum())
            for name, value in state.items()
        )
        for averaging, state in repaired.items()
    }
    assert 0 < far[0.999] < far[0.5] < far[0.0]


@pytest.mark.parametrize(
    ("clean_cost", "regained", "share"),
    [
        (0.03, 0.1, 0),  # its clean error is good enough
        (0.05, 0.1, 0.2),
        (0.3, 0.1, 0.2),  # never good enough: as far as it goes
        (0.05, 5.0, 0.05),  # 0.05 × 5 on top of 1 is still within 1.3, twice is not
        (0.05, 10.0, 0),
    ],
)
def test_the_weights_move_back_as_far_as_the_clean_error_asks(clean_cost, regained, share):
    module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    twin, given = Victim(module), {k: v.clone().zero_() for k, v in module.state_dict().items()}
    nn.init.ones_(module[0].weight)
    module[1].num_batches_tracked.fill_(7)

    class Known:
        def errors(self):
            unlearned = module[0].weight.item()
            stamped = 1 + regained * (1 - unlearned)
            return Errors(torch.tensor([1 + clean_cost * unlearned]), torch.tensor([stamped]))

    before = Errors(torch.ones(1), torch.tensor([9.0]))
    errors, moved = _moved_back(twin, given, Known(), before, Known().errors())
    assert moved == pytest.approx(share)
    assert module[0].weight.item() == pytest.approx(1 - share)
    assert errors.clean == pytest.approx(1 + clean_cost * (1 - share))
    assert weights(twin)["1.num_batches_tracked"] == 7  # a counter is no weight


def test_a_repair_says_how_far_it_moved_back(backdoored):
    victim, backdoor = backdoored
    settings = RepairSettings(steps=40, checks=2, batch_size=16, learning_rate=2e-3, pursuit=0)
    repaired = unlearn(victim, TASK, images(60, seed=3), [backdoor.trigger], settings)
    assert repaired.kept.endswith("of the way back")
    own = Judge(repaired.victim, TASK, repaired.held_out, [backdoor.trigger], "cpu").errors()
    assert own.clean == pytest.approx(repaired.after.clean)  # what is told is of what is given


def test_a_repair_that_only_harms_gives_the_model_back(backdoored):
    victim, backdoor = backdoored
    settings = RepairSettings(steps=20, checks=2, batch_size=32, learning_rate=3.0)
    repaired = unlearn(victim, TASK, images(60, seed=3), [backdoor.trigger], settings)
    assert not repaired.changed
    for key, value in repaired.victim.module.state_dict().items():
        assert torch.equal(value, victim.module.state_dict()[key])


def test_too_few_images(backdoored):
    with pytest.raises(InputError, match="too few images"):
        fine_tune(backdoored[0], TASK, images(10, seed=0))


@pytest.mark.parametrize(
    "settings",
    [{"held_out": 1.0}, {"checks": 0}, {"steps": 5}, {"distillation": 2.0}, {"averaging": 1.0}],
)
def test_impossible_settings(settings):
    with pytest.raises(InputError):
        RepairSettings(**settings)
