"""The papers' measures, as pure functions of features, outputs and labels.

Notation: features F(x) are (N, m), the last layer's rows w_j form ``weight`` (d, m), outputs are
(N, d).  All variances are over images and divide by N.
"""

import torch
from torch import Tensor

from drmguard.tasks import Task

# arccos has no finite slope at ±1; keeping its argument this far inside keeps gradients finite.
_COSINE_MARGIN = 1e-6


def angles(features: Tensor, weight: Tensor) -> Tensor:
    """Angles a_ij = B(F(x_i), w_j) in radians, (N, m) and (d, m) to (N, d) (DRMGuard, Eq. 4)."""
    exact = torch.promote_types(features.dtype, torch.float32)  # bfloat16 has no such margin
    unit_features = torch.nn.functional.normalize(features.to(exact), dim=1)
    unit_weight = torch.nn.functional.normalize(weight.to(exact), dim=1)
    with torch.autocast(features.device.type, enabled=False):
        cosines = unit_features @ unit_weight.T
    return torch.arccos(cosines.clamp(-1 + _COSINE_MARGIN, 1 - _COSINE_MARGIN))


def variance(values: Tensor) -> Tensor:
    """Variance over images of (N, ...) values."""
    return values.var(dim=0, correction=0)


def rav(poisoned: Tensor, benign: Tensor, weight: Tensor) -> Tensor:
    """Ratio of angle variance, from features with and without trigger (DRMGuard, Eq. 3)."""
    return rav_of_angles(angles(poisoned, weight), variance(angles(benign, weight)))


def rav_of_angles(poisoned_angles: Tensor, benign_variance: Tensor) -> Tensor:
    """RAV from angles (N, d) and the variance (d,) of the benign ones, computed once."""
    return (variance(poisoned_angles) / benign_variance).mean()


def rnv(poisoned: Tensor, benign: Tensor) -> Tensor:
    """Ratio of norm variance, from features with and without trigger (DRMGuard, Eq. 3)."""
    norm = torch.linalg.vector_norm
    return variance(norm(poisoned, dim=1)) / variance(norm(benign, dim=1))


def output_variance_ratio(poisoned: Tensor, benign: Tensor) -> Tensor:
    """Mean over outputs of var f_j(A(x)) / var f_j(x): 0 is a full collapse, 1 no effect."""
    return (variance(poisoned) / variance(benign)).mean()


def regression_error(task: Task, outputs: Tensor, labels: Tensor) -> float:
    """Mean error to the correct labels: RE on benign images, DAE on poisoned ones."""
    return float(task.error(outputs, labels).mean())


def attack_error(task: Task, poisoned_outputs: Tensor, target: Tensor) -> float:
    """Mean error AE of the outputs on poisoned images to the attacker's target vector (d,)."""
    return float(task.error(poisoned_outputs, target.expand(len(poisoned_outputs), -1)).mean())
