"""Our networks against a library's: live where it is installed, and its recorded answers always.

monai has the ResNets.  pytorchcv has the others, but installing it replaces a CPU build of
PyTorch or adds a torchvision that breaks beside it; `pip install --no-deps pytorchcv` runs the
comparison, and the answers it gave (0.0.74) are recorded below.
"""

import pytest
import torch
from torch import nn

from drmguard.errors import InputError
from drmguard.models.networks import NETWORKS, build_network, default_width, network_arguments
from drmguard.models.victim import Victim

SIZES = {"csaw": (55, 47), "pilotnet": (66, 200)}


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_same_keys_and_outputs_as_monai(name):
    monai_resnet = pytest.importorskip("monai.networks.nets.resnet")
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


def fill(module):
    """The same weights for every network with the same parameters in the same order."""
    with torch.no_grad():
        for number, value in enumerate(tensors(module)):
            wave = torch.sin(torch.arange(value.numel()) * 0.37 + number).reshape(value.shape)
            if value.ndim > 1:
                value.copy_(wave * (2 / value[0].numel()) ** 0.5)
            else:
                value.copy_(1 + 0.2 * wave)
    return module.eval()


def tensors(module):
    return [v for k, v in module.state_dict().items() if "num_batches_tracked" not in k]


def reference_mobilenet():
    from pytorchcv.models.mobilenet import mobilenet_w1

    return mobilenet_w1()


def reference_wrn():
    from pytorchcv.models.wrn_cifar import CIFARWRN

    channels = [[16, 16], [32, 32], [64, 64]]
    return CIFARWRN(channels=channels, init_block_channels=16, num_classes=10)


def reference_preactresnet():
    from pytorchcv.models.preresnet import preresnet18

    model = preresnet18()
    model.features.init_block = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    return model


COMPARED = {
    # name: arguments, image side, reference, the first outputs it gave
    "mobilenetv1": (
        {"num_outputs": 1000},
        224,
        reference_mobilenet,
        (-143.31892, 209.43227, 14.46618),
    ),
    "wrn16": ({"num_outputs": 10}, 32, reference_wrn, (-26.679907, -84.899117, 8.22403)),
    "preactresnet18": (
        {"num_outputs": 1000, "final_norm": True},
        56,
        reference_preactresnet,
        (1.2511687, 1.1127617, 1.0175974),
    ),
}


def image(side):
    grid = torch.arange(3 * side * side) * 0.013
    return torch.sin(grid).reshape(1, 3, side, side)


@pytest.mark.parametrize("name", COMPARED)
def test_same_outputs_as_pytorchcv_gave(name):
    arguments, side, _, expected = COMPARED[name]
    with torch.no_grad():
        outputs = fill(build_network(name, arguments))(image(side))[0, :3]
    assert torch.allclose(outputs, torch.tensor(expected), rtol=1e-4)


@pytest.mark.parametrize("name", COMPARED)
def test_same_outputs_as_pytorchcv(name):
    pytest.importorskip("pytorchcv")
    arguments, side, reference, expected = COMPARED[name]
    theirs, ours = fill(reference()), fill(build_network(name, arguments))
    assert [v.shape for v in tensors(theirs)] == [v.shape for v in tensors(ours)]
    with torch.no_grad():
        outputs = theirs(image(side))
        assert torch.allclose(ours(image(side)), outputs, rtol=1e-4)
        assert torch.allclose(outputs[0, :3], torch.tensor(expected), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "outputs", "count"),
    [
        ("resnet18", 2, 11_177_538),
        ("csaw", 1283, 601_643),  # what the competition's model.summary() says
        ("pilotnet", 1, 252_219),  # published as about 250 thousand
        ("preactresnet18", 10, 11_171_146),  # the CIFAR version in common use
    ],
)
def test_published_sizes(name, outputs, count):
    module = build_network(name, {"num_outputs": outputs})
    assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_head_are_found_at_any_width(name, channels):
    height, columns = SIZES.get(name, (64, 64))
    wanted = {
        "num_outputs": 4,
        "width": 0.25,
        "in_channels": channels,
        "image_height": height,
        "image_width": columns,
        "small_stem": True,
    }
    torch.manual_seed(0)
    victim = Victim(build_network(name, network_arguments(name, wanted)).eval())
    images = torch.rand(2, channels, height, columns)
    victim.find_head(images)
    features, outputs = victim.evaluate([images])
    assert outputs.shape == (2, 4)
    assert torch.allclose(victim.head(features), outputs)
    # Folding BatchNorm for a scan must not change what the network computes.
    _, folded = victim.frozen().evaluate([images])
    assert torch.allclose(folded, outputs, atol=1e-5)


@pytest.mark.parametrize("name", ["csaw", "pilotnet"])
def test_images_that_are_too_small_are_a_sentence(name):
    with pytest.raises(InputError, match="too small"):
        build_network(name, {"num_outputs": 1, "image_height": 20, "image_width": 20})


def test_large_networks_are_trained_at_a_quarter():
    assert default_width("resnet18") == 0.25
    assert default_width("pilotnet") == 1


def test_width_and_stem():
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
        ("resnet18", {"num_outputs": True}, "cannot be True"),
        ("resnet18", {"num_outputs": 2, "small_stem": 1}, "cannot be 1"),
        ("resnet18", {"num_outputs": 2, "width": 1e9}, "outside"),
    ],
)
def test_bad_arguments(name, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        build_network(name, arguments)
