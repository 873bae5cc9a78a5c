import pytest
import torch
from torch import nn

from drmguard.models.head import BeforeBound, find_bounded_head, find_head


class Behind(nn.Module):
    """A linear layer and what stands behind it."""

    def __init__(self, last, outputs=2):
        super().__init__()
        self.hidden, self.fc, self.last = nn.Linear(6, outputs), nn.Linear(6, outputs), last

    def forward(self, inputs):
        return self.last(self.fc(inputs.flatten(1)) + 0 * self.hidden(inputs.flatten(1)))


@pytest.fixture
def inputs():
    return torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "last",
    [
        torch.tanh,
        lambda outputs: 100 * torch.sigmoid(outputs),
        lambda outputs: 5 - 2 * outputs,
        lambda outputs: outputs.clamp(-0.5, 0.5),
        lambda outputs: (4 * outputs).round(),
        lambda outputs: outputs.tanh()[..., None],
    ],
    ids=["tanh", "sigmoid", "unit", "clamp", "round", "shape"],
)
def test_a_layer_whose_outputs_each_decide_one_of_the_models_is_found(last, inputs):
    module = Behind(last)
    assert find_head(module, inputs) is None
    assert find_bounded_head(module, inputs) == "fc"


@pytest.mark.parametrize(
    "last",
    [
        lambda outputs: outputs + 0.3 * outputs.flip(1),
        lambda outputs: outputs.abs(),
        lambda outputs: outputs.softmax(1) * torch.tensor([1.0, 0.0]),
        lambda outputs: nn.functional.normalize(outputs, dim=1),
        lambda outputs: outputs.sum(1, keepdim=True),
    ],
    ids=["mixed", "folded", "constant", "normalised", "fewer"],
)
def test_other_layers_are_not(last, inputs):
    assert find_bounded_head(Behind(last), inputs) is None


def test_a_model_without_linear_layers_has_none(inputs):
    assert find_bounded_head(nn.Tanh(), inputs) is None


def test_in_front_of_the_bound_and_back(inputs):
    module = Behind(torch.tanh)
    before = BeforeBound(module, "fc")
    values = before(inputs)
    torch.testing.assert_close(values, module.fc(inputs))
    torch.testing.assert_close(before.outputs_at(values, inputs), module(inputs))
    elsewhere = torch.tensor([[0.5, -2.0]])
    torch.testing.assert_close(before.outputs_at(elsewhere, inputs[:1]), elsewhere.tanh())
    assert not module.fc._forward_hooks
