import pytest
import torch
from torch import nn

from drmguard.errors import InputError
from drmguard.models.networks import build_network
from drmguard.models.victim import InputFormat, Victim


class Recorder(nn.Module):
    """Keeps what reaches the model."""

    def forward(self, images):
        self.seen = images.detach()
        return images.flatten(1)[:, :2]


def test_the_victim_alone_converts_pixels():
    module = Recorder()
    form = InputFormat(pixel_range=(0, 255), mean=(100.0,), std=(50.0,), layout="NHWC")
    Victim(module, form)(torch.full((1, 3, 4, 5), 0.5))
    assert module.seen.shape == (1, 4, 5, 3)
    assert torch.allclose(module.seen, torch.tensor((127.5 - 100) / 50))


@pytest.mark.parametrize("value", [1.5, -0.5, float("nan")])
def test_images_outside_the_range_are_refused(value):
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        Victim(Recorder())(torch.full((1, 3, 4, 4), value))


@pytest.mark.parametrize(
    "settings",
    [
        {"pixel_range": (1.0, 0.0)},
        {"std": (0.0,)},
        {"mean": (float("nan"),)},
        {"layout": "CHWN"},
    ],
)
def test_impossible_formats(settings):
    with pytest.raises(InputError):
        InputFormat(**settings)


def network(**arguments):
    torch.manual_seed(0)
    return build_network("resnet18", {"num_outputs": 2, "width": 0.125, **arguments}).eval()


def test_head_is_found_and_features_are_its_input():
    victim, images = Victim(network()), torch.rand(3, 3, 32, 32)
    assert victim.find_head(images) == "fc"
    features, outputs = victim.features_and_outputs(images)
    assert torch.allclose(victim.head(features), outputs)


def test_no_hook_remains_also_after_failure():
    victim = Victim(network())
    victim.find_head(torch.rand(2, 3, 32, 32))
    victim.features_and_outputs(torch.rand(2, 3, 32, 32))
    with pytest.raises(RuntimeError):
        victim.features_and_outputs(torch.rand(2, 5, 32, 32))
    for module in victim.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_an_activation_after_the_last_layer_hides_the_head():
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2), nn.Sigmoid())
    images = torch.rand(2, 3, 4, 4)
    assert Victim(module).find_head(images) is None
    named = Victim(module, head="1")
    assert named.find_head(images) == "1"
    with pytest.raises(InputError, match="no layer 'fc'"):
        Victim(module, head="fc")
    with pytest.raises(InputError, match="Sigmoid, not a linear"):
        Victim(module, head="2")


def test_frozen_copy_is_the_same_function_and_leaves_the_original_alone():
    module = network().train()
    module.bn1.running_mean.uniform_(-1, 1)
    module.bn1.running_var.uniform_(0.5, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    frozen = Victim(module).frozen()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(frozen(images), Victim(module.eval())(images), atol=1e-4)


def test_a_model_that_cannot_be_traced_is_not_folded():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)

        def forward(self, images):
            out = self.norm(self.conv(images)).mean((2, 3))
            return out if out.sum() > 0 else -out

    frozen = Victim(Branching().eval()).frozen()
    assert any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    assert frozen(torch.rand(2, 3, 8, 8)).shape == (2, 2)


def test_a_convolution_used_twice_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.norm.running_mean.uniform_(-1, 1)

        def forward(self, images):
            return (self.norm(self.conv(images)) + self.conv(images)).mean((2, 3))

    module, images = Twice().eval(), torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.allclose(Victim(module).frozen()(images), module(images), atol=1e-6)


def test_in_front_of_a_bound_only_where_there_is_one_and_no_other_layer_was_named():
    images = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 2), nn.Linear(2, 2), nn.Sigmoid())
    for victim in (Victim(module), Victim(module, head="2")):
        before = victim.before_bound(images)
        assert before is not None
        values = before(images)
        features, outputs = before.features_and_outputs(images)
        assert torch.equal(outputs, values)
        assert torch.equal(before.head(features), values)
        torch.testing.assert_close(before.bounded(values, images), module(images))
    assert Victim(module, head="1").before_bound(images) is None
    assert Victim(module[:3]).before_bound(images) is None
