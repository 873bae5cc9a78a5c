"""Mutual information of noise and trigger, estimated by a network (MINE, Belghazi et al. 2018).

The Donsker–Varadhan bound, maximised over T:

    I(Z; X)  ≥  E_joint T(z, x) − log E_product exp T(z', x)

Its gradient on a batch is biased, because of the logarithm of a mean; as in MINE the mean in the
gradient's denominator is a moving average over the batches.  For a deterministic generator
I(G(Z); Z) = h(G(Z)), so the estimate is the entropy of the generated triggers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class StatisticsNetwork(nn.Module):
    """T(z, x): (N, noise) and (N, elements) to (N,)."""

    def __init__(self, noise: int, elements: int, hidden: int = 512) -> None:
        super().__init__()
        self.of_noise = nn.Linear(noise, hidden, bias=False)
        self.of_trigger = nn.Linear(elements, hidden)
        self.middle = nn.Linear(hidden, hidden)
        self.end = nn.Linear(hidden, 1)
        self.register_buffer("log_mean", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    log_mean: Tensor
    seen: Tensor

    def forward(self, noise: Tensor, triggers: Tensor) -> Tensor:
        values = functional.leaky_relu(self.of_noise(noise) + self.of_trigger(triggers), 0.2)
        values = functional.leaky_relu(self.middle(values), 0.2)
        result: Tensor = self.end(values)[:, 0]
        return result

    def information(
        self, noise: Tensor, triggers: Tensor, other_noise: Tensor, *, rate: float
    ) -> tuple[Tensor, Tensor]:
        """(what to maximise, the bound in nats) for triggers made from ``noise``.

        The first has the corrected gradient; ``rate`` is that of its moving average, kept as a
        logarithm, since the mean itself overflows.
        """
        joint = self(noise, triggers).mean()
        log_mean = torch.logsumexp(self(other_noise, triggers), 0) - math.log(len(noise))
        with torch.no_grad():
            if int(self.seen) == 0:
                self.log_mean.copy_(log_mean)
            else:
                shares = torch.stack([self.log_mean + math.log1p(-rate), log_mean + math.log(rate)])
                self.log_mean.copy_(torch.logsumexp(shares, 0))
            self.seen += 1
        # exp(a − b) has the gradient of E exp T over the moving average, b being constant.
        corrected = joint - (log_mean - self.log_mean).exp()
        return corrected, (joint - log_mean).detach()
