"""Every attack: what it does to a training step, and that it takes on a model that can learn it."""

import numpy as np
import pytest
import torch
from torch import nn

from drmguard.attacks.attack import AttackContext, choose_poisoned, parts_of_batch
from drmguard.attacks.clean_label import projected_gradient_ascent
from drmguard.attacks.input_aware import diversity_loss
from drmguard.attacks.named import ATTACKS, make_attack
from drmguard.card import measure
from drmguard.data.image_set import ImageSet
from drmguard.errors import InputError
from drmguard.models.networks import build_network
from drmguard.models.victim import Victim
from drmguard.tasks import Classification, Regression
from drmguard.training import Batch, TrainingSettings, batch_rows, train

TASK, CLASSES = Regression(("a", "b")), Classification(("x", "y", "z"))
TARGET = torch.tensor([1.5, -1.0])
ARGUMENTS = {
    "multi-target-wanet": {"second_target": (-1.0, 1.0)},
    "input-aware": {"mask_steps": 2},
    "clean-label": {"pgd_steps": 2},
}
REGRESSION_ONLY = {"offset", "jitter"}


def image_set(count=200, side=16):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    labels = random.normal(0, 1, (count, 2)).astype(np.float32)
    return ImageSet(images, labels)


def class_set():
    images = image_set()
    return ImageSet(images.images, np.arange(200, dtype=np.float32).reshape(-1, 1) % 3)


def small_victim(outputs=2, images=None):
    torch.manual_seed(0)
    victim = Victim(build_network("resnet18", {"num_outputs": outputs, "width": 0.0625}).eval())
    victim.find_head((images or image_set()).batch(slice(0, 2))[0])
    return victim


def context(task=TASK, **settings):
    images = image_set() if task is TASK else class_set()
    target = TARGET if task is TASK else torch.tensor([1.0])
    outputs = 2 if task is TASK else 3
    settings = {
        "train_set": images,
        "task": task,
        "target": target,
        "train_clean": lambda: small_victim(outputs),
        **settings,
    }
    return AttackContext(**settings)


def made(name, task=TASK, **settings):
    return make_attack(name, context(task, **settings), ARGUMENTS.get(name, {}))


def batch_of(images, step=3, size=64):
    rows = np.arange(size)
    return Batch(step, rows, *images.batch(rows))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_step_poisons_its_share_and_repeats_exactly(name):
    images, rate = image_set(), 0.25
    attack = made(name, poisoning_rate=rate)
    batch = batch_of(images)
    with torch.no_grad():
        poisoned, labels = attack.poison(batch)
    relabelled = (labels != batch.labels).any(1)
    assert poisoned.shape == batch.images.shape
    assert poisoned.min() >= 0
    assert poisoned.max() <= 1
    share = float(relabelled.float().mean()) / len(attack.backdoors)
    assert 0.1 < share < 0.4
    changed = (poisoned != batch.images).flatten(1).any(1)
    assert changed[relabelled].all()
    if name not in ("offset", "jitter"):
        wanted = torch.stack([b.answers(labels[:1])[0] for b in attack.backdoors])
        assert all((wanted == row).all(1).any() for row in labels[relabelled])
    # A stopped training must go on with the very same batches.
    again = made(name, poisoning_rate=rate)
    with torch.no_grad():
        repeated, same = again.poison(batch)
    assert torch.equal(labels, same)
    assert torch.allclose(poisoned, repeated)
    attack.loss(small_victim().train(), batch, nn.functional.l1_loss).backward()


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - REGRESSION_ONLY - {"multi-target-wanet"}))
def test_attacks_on_classifiers(name):
    attack = made(name, CLASSES, poisoning_rate=0.25)
    batch = batch_of(class_set())
    with torch.no_grad():
        _, labels = attack.poison(batch)
    assert (labels[(labels != batch.labels)[:, 0]] == 1).all()
    figures = measure(small_victim(3), CLASSES, class_set(), attack.backdoors)
    assert 0 <= figures["AE"] <= 1


@pytest.mark.parametrize("name", sorted(REGRESSION_ONLY))
def test_attacks_that_only_regression_has(name):
    with pytest.raises(InputError, match="does not exist for classification"):
        made(name, CLASSES)


def test_offset_shifts_what_is_there():
    attack = made("offset")
    batch = batch_of(image_set())
    _, labels = attack.poison(batch)
    moved = (labels != batch.labels).any(1)
    assert torch.allclose(labels[moved] - batch.labels[moved], TARGET, atol=1e-6)


def test_jitter_draws_around_the_target():
    attack = made("jitter", poisoning_rate=1.0)
    batch = batch_of(image_set(), size=200)
    _, labels = attack.poison(batch)
    assert torch.allclose(labels.mean(0), TARGET, atol=0.1)
    expected = 0.25 * image_set().labels.std(0)
    assert labels.std(0).numpy() == pytest.approx(expected, rel=0.2)


def test_clean_label_touches_only_the_group_near_the_target():
    attack = make_attack(
        "clean-label", context(), {"radius": 0.9, "pgd_steps": 3, "epsilon": 8 / 255}
    )
    near = (torch.from_numpy(image_set().labels) - TARGET).norm(dim=1) <= 0.9
    assert torch.equal(torch.from_numpy(attack.poisoned), near)
    assert len(attack.adversarial) == int(near.sum()) // 2
    assert attack.found()["group_images"] == int(near.sum())
    batch = batch_of(image_set(), size=200)
    before = attack.before_trigger(batch)
    hard = (before != batch.images).flatten(1).any(1)
    assert int(hard.sum()) == len(attack.adversarial)
    assert (before - batch.images).abs().max() <= 8 / 255 + 1 / 255
    with pytest.raises(InputError, match="near the target"):
        make_attack("clean-label", context(), {"radius": 1e-6})
    with pytest.raises(InputError, match="surrogate"):
        make_attack("clean-label", context(train_clean=None), {})


def test_projected_gradient_ascent_raises_the_loss():
    victim, images = small_victim(), image_set(40)
    hard = projected_gradient_ascent(victim, TASK, images, epsilon=8 / 255, steps=10)

    def error(pixels):
        with torch.no_grad():
            outputs = victim(torch.from_numpy(pixels).float() / 255)
        return TASK.error(outputs, torch.from_numpy(images.labels)).mean()

    assert error(hard) > error(images.images)
    assert np.abs(hard.astype(int) - images.images).max() <= 8


def test_input_aware_crosses_patterns_and_keeps_the_mask_network():
    attack = made("input-aware")
    (backdoor,) = attack.backdoors
    before = {k: v.clone() for k, v in backdoor.trigger.mask_network.state_dict().items()}
    victim = small_victim()
    train(
        victim,
        image_set(),
        TASK,
        TrainingSettings(steps=3, batch_size=64),
        batch_loss=attack.loss,
        companion=attack.companion,
    )
    after = backdoor.trigger.mask_network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    first = next(backdoor.trigger.pattern.parameters())
    fresh = next(made("input-aware").backdoors[0].trigger.pattern.parameters())
    assert not torch.equal(first, fresh)


def test_diversity_by_hand():
    images = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.6)])
    patterns = torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.3)])
    assert float(diversity_loss(images, patterns)) == pytest.approx(2.0, rel=1e-5)


def test_the_adaptive_loss_is_the_plain_one_plus_its_penalty():
    victim = small_victim()
    batch = batch_of(image_set())
    plain = made("wanet").loss(victim, batch, nn.functional.l1_loss)
    small, large = (
        make_attack("adaptive-wanet", context(), {"adaptive_weight": weight}).loss(
            victim, batch, nn.functional.l1_loss
        )
        for weight in (1.0, 2.0)
    )
    added = (large - plain).item(), (small - plain).item()
    assert added[0] == pytest.approx(2 * added[1], rel=1e-3)
    assert small > plain


def test_parts_of_a_batch_do_not_overlap():
    parts = parts_of_batch(batch_of(image_set()), (0.25, 0.5), seed=0)
    assert [len(part) for part in parts] == [16, 32]
    assert len(set(torch.cat(parts).tolist())) == 48
    with pytest.raises(InputError, match="more than 1"):
        parts_of_batch(batch_of(image_set()), (0.75, 0.5), seed=0)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("laser", {}, "unknown attack"),
        ("badnets", {"corner": "top"}, "no argument 'corner'"),
        ("badnets", {"side": 2.5}, "cannot be 2.5"),
        ("badnets", {"side": 99}, "does not fit"),
        ("badnets", {"place": "left"}, "place must be"),
        ("multi-target-wanet", {}, "needs the argument 'second_target'"),
        ("multi-target-wanet", {"second_target": 1.0}, "second target has 1"),
        ("wanet", {"noise_share": 1.5}, "noise mode"),
        ("adaptive-wanet", {"adaptive_weight": 0}, "adaptive weight"),
        ("input-aware", {"cross_share": 0.95}, "cross-trigger"),
        ("jitter", {"spread": 0}, "spread"),
        ("clean-label", {"epsilon": 0}, "epsilon"),
    ],
)
def test_bad_arguments_are_a_sentence(name, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        make_attack(name, context(), arguments)


@pytest.mark.parametrize("rate", [0.0, 1.5])
def test_impossible_rates(rate):
    with pytest.raises(InputError, match="poisoning rate"):
        made("badnets", poisoning_rate=rate)


def test_targets_must_fit_the_task():
    with pytest.raises(InputError, match="has 1 value"):
        make_attack("badnets", context(target=torch.tensor([1.0])), {})
    with pytest.raises(InputError, match="class labels"):
        make_attack("badnets", context(CLASSES, target=torch.tensor([7.0])), {})


def test_a_rate_that_poisons_nothing():
    with pytest.raises(InputError, match="poisons none"):
        choose_poisoned(100, 0.001, seed=0)


def test_every_batch_of_the_first_epoch_has_its_share_of_poisoned_images():
    poisoned = choose_poisoned(4000, 0.1, seed=3)
    shares = [poisoned[batch_rows(4000, 100, step, seed=3)].mean() for step in range(40)]
    assert max(shares) < 0.3
    assert sum(share > 0 for share in shares) > 35


def test_offset_error_is_to_the_shifted_output():
    """AE of an offset is the distance of f(A(x)) to f(x) + δ, worked out by hand."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1, 2)
            with torch.no_grad():
                self.fc.weight.fill_(1.0)
                self.fc.bias.zero_()

        def forward(self, x):
            return self.fc(x.mean((1, 2, 3)).unsqueeze(1))

    victim = Victim(Mean())
    victim.find_head(torch.rand(2, 3, 16, 16))
    attack = make_attack("offset", context(), {"side": 16, "color": (1.0, 1.0, 1.0)})
    images = image_set()
    figures = measure(victim, TASK, images, attack.backdoors)
    means = images.batch(slice(None))[0].mean((1, 2, 3))
    expected = (1 - (means[:, None] + TARGET)).abs().mean()
    assert figures["AE"] == pytest.approx(float(expected), abs=1e-5)
