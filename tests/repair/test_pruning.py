"""Fine-pruning and ANP: what is pruned, what stays, and what each cannot take."""

import pytest
import torch
from torch import nn

from conftest import AnalyticModel, labelled_by, smooth_images
from drmguard.errors import InputError
from drmguard.models.victim import Victim
from drmguard.repair.adversarial_pruning import AdversarialPruningSettings, adversarially_prune
from drmguard.repair.fine_pruning import FinePruningSettings, fine_prune
from drmguard.repair.fine_tuning import RepairSettings
from drmguard.tasks import Classification, Regression
from drmguard.training import TrainingSettings, train

TASK = Regression(("a", "b"))
TUNING = RepairSettings(steps=20, checks=2, batch_size=32, learning_rate=1e-3)
PRUNING = FinePruningSettings(step=0.05, tuning=TUNING)
MASKING = AdversarialPruningSettings(steps=40, batch_size=32)


def images(count, seed):
    return labelled_by(AnalyticModel(planted=False), smooth_images(count, seed=seed))


@pytest.fixture(scope="module")
def victim():
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 12, 4, 4, bias=False), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.Conv2d(12, 20, 2, 2), nn.BatchNorm2d(20), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(320, 2)),
    )
    victim = Victim(module)
    settings = TrainingSettings(steps=300, learning_rate=3e-3)
    train(victim, images(300, seed=1), TASK, settings)
    return victim


def bits(victim):
    return {k: v.clone() for k, v in victim.module.state_dict().items()}


def same(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


def test_fine_pruning_silences_the_least_active_channels_and_keeps_them_silent(victim):
    given = bits(victim)
    with torch.no_grad():  # a channel that clean images never use
        victim.module[4].bias[7] = -50.0
    repaired = fine_prune(victim, TASK, images(120, seed=3), (), PRUNING)
    weight = repaired.victim.module[4].weight.detach()
    silent = [k for k in range(20) if float(weight[k].abs()) == 0]
    assert 7 in silent
    assert f"{len(silent)} of 20 channels of 3 pruned" in repaired.kept
    assert all(not repaired.victim.module[3].weight[k].any() for k in silent)
    assert not repaired.victim.module[4].bias[7]
    assert repaired.after.clean <= repaired.before.clean * (1 + PRUNING.margin)
    victim.module.load_state_dict(given)


def test_no_margin_prunes_only_what_costs_nothing(victim):
    settings = FinePruningSettings(margin=0.0, step=1.0, tuning=TUNING)
    repaired = fine_prune(victim, TASK, images(60, seed=3), (), settings)
    assert repaired.kept.startswith("0 of 20")


def test_anp_prunes_within_the_margin_and_gives_running_statistics_back(victim):
    given = bits(victim)
    repaired = adversarially_prune(victim, TASK, images(120, seed=3), (), MASKING)
    assert same(bits(victim), given)
    after = bits(repaired.victim)
    assert all(torch.equal(after[k], v) for k, v in given.items() if "running" in k)
    assert repaired.after.clean <= repaired.before.clean * (1 + MASKING.margin) + 1e-6
    assert repaired.changed == (not same(after, given))
    again = adversarially_prune(victim, TASK, images(120, seed=3), (), MASKING)
    assert again.kept == repaired.kept


def test_a_channel_whose_small_change_does_harm_is_masked_first():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(1536, 2)
    )
    with torch.no_grad():
        module[1].weight[2], module[1].bias[2] = 6.0, -18.0  # asleep, until it is perturbed
        module[4].weight[:, 512:768] *= 50
    data = images(120, seed=3)
    pixels, _ = data.batch(slice(None))
    with torch.no_grad():
        for _ in range(60):  # BatchNorm's running statistics
            module.train()(pixels)
        data.labels[:] = module.eval()(pixels).numpy()
    settings = AdversarialPruningSettings(steps=60, batch_size=32, margin=10.0, learning_rate=0.02)
    repaired = adversarially_prune(Victim(module), TASK, data, (), settings)
    assert [k for k in range(6) if not repaired.victim.module[1].weight[k]] == [2]
    assert repaired.kept.startswith("1 of 6")


def test_classifiers_are_pruned_too(victim):
    data = images(120, seed=3)
    data = type(data)(data.images, (data.labels[:, :1] > 0).astype("float32"))
    task = Classification(("low", "high"))
    for repair, settings in ((fine_prune, PRUNING), (adversarially_prune, MASKING)):
        repaired = repair(victim, task, data, (), settings)
        assert 0 <= repaired.after.clean <= 1


def test_models_that_cannot_be_pruned():
    module = Victim(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)))
    with pytest.raises(InputError, match="needs a convolution"):
        fine_prune(module, TASK, images(40, seed=0), (), PRUNING)
    with pytest.raises(InputError, match="prunes BatchNorm channels"):
        adversarially_prune(module, TASK, images(40, seed=0), (), MASKING)
    with pytest.raises(InputError, match="margin"):
        FinePruningSettings(margin=-1)
