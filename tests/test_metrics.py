import math

import pytest
import torch

from drmguard import metrics
from drmguard.tasks import Regression

WEIGHT = torch.tensor([[1.0, 0.0], [0.0, 2.0]])


def test_angles_by_hand():
    features = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    degrees = torch.rad2deg(metrics.angles(features, WEIGHT))
    wanted = torch.tensor([[0.0, 90.0], [45.0, 45.0], [90.0, 180.0]])
    assert torch.allclose(degrees, wanted, atol=0.1)


def test_angles_of_half_precision_are_computed_in_full():
    features = torch.tensor([[3.0, 0.0], [1.0, 1.0]], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = metrics.angles(features, WEIGHT)
    assert found.dtype == torch.float32
    assert torch.allclose(torch.rad2deg(found[1]), torch.tensor([45.0, 45.0]), atol=0.1)
    found.sum().backward()
    assert features.grad.isfinite().all()


def test_rav_by_hand():
    # Benign angles to w_1: 0° and 90°, variance (45°)²; poisoned: 0° and 45°, (22.5°)².
    benign = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    poisoned = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # To w_2 the angles are the complements, with the same variances.
    assert metrics.rav(poisoned, benign, WEIGHT).item() == pytest.approx(0.25, abs=2e-3)
    assert metrics.rav(benign, benign, WEIGHT).item() == pytest.approx(1.0)


def test_rnv_by_hand():
    benign = torch.tensor([[3.0, 4.0], [0.0, 1.0]])  # norms 5 and 1: variance 4
    poisoned = torch.tensor([[2.0, 0.0], [0.0, 4.0]])  # norms 2 and 4: variance 1
    assert metrics.rnv(poisoned, benign).item() == pytest.approx(0.25)


def test_output_variance_ratio_by_hand():
    benign, poisoned = (
        torch.tensor([[0.0, 0.0], [2.0, 4.0]]),
        torch.tensor([[1.0, 1.0], [1.0, 3.0]]),
    )
    assert metrics.output_variance_ratio(poisoned, benign).item() == pytest.approx((0 + 0.25) / 2)


def test_errors_by_hand():
    task = Regression(("a", "b"))
    outputs = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    labels = torch.tensor([[1.0, 1.0], [2.0, 4.0]])
    assert metrics.regression_error(task, outputs, labels) == pytest.approx(1.0)
    assert metrics.attack_error(task, outputs, torch.tensor([2.0, 0.0])) == pytest.approx(1.0)


def test_angle_gradient_stays_finite_for_parallel_vectors():
    features = torch.tensor([[2.0, 0.0]], requires_grad=True)
    metrics.angles(features, WEIGHT).sum().backward()
    assert torch.isfinite(features.grad).all()


def test_gradients_against_finite_differences():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(5, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    benign = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(metrics.angles, (features, weight))
    assert torch.autograd.gradcheck(lambda f: metrics.rav(f, benign, weight), (features,))
    assert torch.autograd.gradcheck(metrics.variance, (features,))
    assert math.isfinite(metrics.rav(features, benign, weight).item())
