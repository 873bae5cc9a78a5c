import pytest
import torch

from drmguard.errors import InputError
from drmguard.models.networks import build_network

monai_resnet = pytest.importorskip("monai.networks.nets.resnet")


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_same_keys_and_outputs_as_a_library(name):
    reference = getattr(monai_resnet, name)(
        spatial_dims=2,
        n_input_channels=3,
        num_classes=2,
        shortcut_type="B",
        bias_downsample=False,
        conv1_t_stride=2,
        conv1_t_size=7,
    ).eval()
    ours = build_network(name, {"num_outputs": 2}).eval()
    ours.load_state_dict(reference.state_dict(), strict=True)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(images), reference(images), atol=1e-6)


def test_width_and_stem():
    count = sum(p.numel() for p in build_network("resnet18", {"num_outputs": 2}).parameters())
    assert count == 11_177_538
    small = build_network("resnet18", {"num_outputs": 2, "width": 0.25, "small_stem": True})
    assert sum(p.numel() for p in small.parameters()) == pytest.approx(700_000, rel=0.02)
    assert small(torch.rand(2, 3, 8, 8)).shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("resnet99", {}, "unknown network"),
        ("resnet18", {}, "needs the argument 'num_outputs'"),
        ("resnet18", {"num_outputs": 2, "depth": 3}, "no argument 'depth'"),
        ("resnet18", {"num_outputs": "two"}, "cannot be 'two'"),
        ("resnet18", {"num_outputs": 2, "width": 1e9}, "outside"),
    ],
)
def test_bad_arguments(name, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        build_network(name, arguments)
