import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from drmguard.errors import InputError
from drmguard.models.load import as_loaded, load_model
from drmguard.models.networks import build_network
from drmguard.models.safetensors_file import NetworkDescription, describe, save_model
from drmguard.models.victim import InputFormat
from drmguard.tasks import Gaze

ARGUMENTS = {"num_outputs": 2, "width": 0.125}


@pytest.fixture
def module():
    torch.manual_seed(0)
    return build_network("resnet18", ARGUMENTS).eval()


@pytest.fixture
def described(tmp_path, module):
    path = tmp_path / "model.safetensors"
    form = InputFormat(pixel_range=(0, 255), mean=(127.0,), std=(64.0,))
    network = NetworkDescription(name="resnet18", arguments=ARGUMENTS)
    save_model(path, module, describe(network, form, Gaze().settings()))
    return path


def test_a_described_file_needs_nothing_else(described, module):
    loaded = load_model(described)
    assert loaded.task == Gaze()
    assert loaded.victim.input_format.pixel_range == (0, 255)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.victim(images), module((images * 255 - 127) / 64))


def test_a_contradiction_is_not_settled_by_a_guess(described):
    with pytest.raises(InputError, match=r"pixel range is \(0.0, 255.0\), but \(0.0, 1.0\)"):
        load_model(described, pixel_range=(0.0, 1.0))


def test_plain_weights_need_a_network_and_a_pixel_range(tmp_path, module):
    plain, state = tmp_path / "plain.safetensors", tmp_path / "state.pt"
    save_file(module.state_dict(), plain)
    torch.save(module.state_dict(), state)
    for path in (plain, state):
        with pytest.raises(InputError, match="does not say its network"):
            load_model(path)
        with pytest.raises(InputError, match="does not say its pixel range"):
            load_model(path, network="resnet18", network_arguments=ARGUMENTS)
    given = {"network": "resnet18", "network_arguments": ARGUMENTS, "pixel_range": (0.0, 1.0)}
    assert load_model(plain, **given).digest == load_model(state, **given).digest


def test_a_pickle_is_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was executed",))

    path = tmp_path / "model.pt"
    torch.save({"weights": Bomb()}, path)
    with pytest.raises(InputError, match="never loaded"):
        load_model(path, network="resnet18", pixel_range=(0, 1))
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError):
        load_model(path, network="resnet18", pixel_range=(0, 1))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda w: w.pop("fc.bias"), "lacks 'fc.bias'"),
        (lambda w: w.update(extra=torch.zeros(1)), "has 'extra'"),
        (lambda w: w.update({"fc.bias": torch.zeros(3)}), r"fc.bias is \(3,\)"),
        (lambda w: w["fc.bias"].fill_(float("nan")), "NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, module, spoil, sentence):
    weights = {key: value.clone() for key, value in module.state_dict().items()}
    spoil(weights)
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    with pytest.raises(InputError, match=sentence):
        load_model(path, network="resnet18", network_arguments=ARGUMENTS, pixel_range=(0, 1))


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ("not json", "broken"),
        (json.dumps({"version": 1}), "network"),
        (json.dumps({"version": 1, "code": "rm"}), "broken"),
    ],
)
def test_a_broken_description(tmp_path, module, metadata, sentence):
    path = tmp_path / "model.safetensors"
    save_file(module.state_dict(), path, {"drmguard": metadata})
    with pytest.raises(InputError, match=sentence):
        load_model(path)


def test_missing_truncated_and_foreign_files(tmp_path, described):
    with pytest.raises(InputError, match="does not exist"):
        load_model(tmp_path / "nothing.safetensors")
    short = tmp_path / "short.safetensors"
    short.write_bytes(described.read_bytes()[:2000])
    with pytest.raises(InputError, match="truncated"):
        load_model(short)
    foreign = tmp_path / "model.onnx"
    foreign.write_bytes(b"")
    with pytest.raises(InputError, match=r"\.onnx is not read"):
        load_model(foreign)


def test_a_path_is_no_model():
    with pytest.raises(InputError, match=r"load_model gives, not 'model\.safetensors'"):
        as_loaded("model.safetensors")
