"""The attention map of DRMGuard's momentum reverse trigger (A.1, Eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from drmguard.models.victim import Victim
from drmguard.tasks import Task

_BATCH = 64
# Dividing by a number just above the maximum keeps the map below 1, as the paper asks.
_ABOVE_MAXIMUM = 1.0001


def attention_maps(victim: Victim, task: Task, images: Tensor) -> Tensor:
    """Maps T(x) (N, 1, H, W) in [0, 1) of images (N, C, H, W) in [0, 1].

    T(x)[a, b] = Σ_c |∂f/∂x[a, b, c]|, scaled for each image.  The paper leaves open how the d
    outputs are reduced; here the absolute gradients of all outputs are added, each divided by
    the output's spread over the images, so that no output's unit decides the map.
    """
    with torch.no_grad():
        responses = torch.cat([task.responses(victim(chunk)) for chunk in images.split(_BATCH)])
    spread = responses.std(0, correction=0).clamp(min=1e-12)
    maps = []
    for chunk in images.split(_BATCH):
        inputs = chunk.detach().clone().requires_grad_()
        scaled = task.responses(victim(inputs)) / spread
        total = torch.zeros_like(inputs[:, :1])
        for j in range(scaled.shape[1]):
            last = j == scaled.shape[1] - 1
            (gradient,) = torch.autograd.grad(scaled[:, j].sum(), inputs, retain_graph=not last)
            total += gradient.abs().sum(1, keepdim=True)
        maps.append(total / (total.amax((1, 2, 3), keepdim=True) * _ABOVE_MAXIMUM).clamp(min=1e-12))
    return torch.cat(maps)
