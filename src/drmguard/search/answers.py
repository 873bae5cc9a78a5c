"""Answers that a model is sent to: which ones, and how much of the way to them is left.

All are standardised by the clean responses, so the clean mean is 0 and the clean spread 1.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

# An answer nearer to the mean counts as if it were this far, in clean standard deviations squared.
_NEAREST = 0.3
# Nearer to the mean than this, in clean standard deviations, an answer may be what is left when the
# content is erased.
_NEAR, LEAST_NEARNESS = 0.5, 0.1
# Answers are apart from so much of one's distance from the mean on.
_APART = 0.25
# What is left of the way (squared) to an answer that is reached as well as any: within few steps,
# when a change has settled, and at a bound.
ALIKE, ALIKE_SETTLED, _SATURATED = 0.002, 1e-4, 0.06
# Outputs so many clean standard deviations apart lie on one point by half.
_TOGETHER = 0.1
# So many clean standard deviations past the clean answers lies what only a bound explains.
_BEYOND = 0.4


def missed(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance (…) of outputs (…, n, d) from targets (…, d), in squared ways."""
    return (outputs - targets.unsqueeze(-2)).square().mean((-2, -1)) / _way(targets)


def scatter(outputs: Tensor) -> Tensor:
    """Mean squared distance (…) of outputs (…, n, d) from their mean, in squared ways to it."""
    return missed(outputs, outputs.mean(-2))


def meeting_pairs(outputs: Tensor) -> Tensor:
    """Share (…) of the pairs of outputs (…, n, d) that lie on one point, in (0, 1].

    The mean of a Cauchy kernel over all pairs.  Where a trigger works on some images only, these
    meet at its answer and count, while the others may lie anywhere; the variance would draw all
    towards their mean instead.
    """
    first, second = torch.triu_indices(outputs.shape[-2], outputs.shape[-2], 1)
    distances = (outputs[..., first, :] - outputs[..., second, :]).square().mean(-1)
    return (1 / (1 + distances / _TOGETHER**2)).mean(-1)


def _way(answers: Tensor) -> Tensor:
    """Squared distance (…) of answers (…, d) from the clean mean."""
    return answers.square().mean(-1).clamp(min=_NEAREST)


def contrast_of(
    own: float,
    others: list[float],
    chance: float = math.inf,
    *,
    bounded: bool,
    alike: float = ALIKE,
) -> float:
    """What is left of the way to one answer, over what is left of it to others.

    What is reached but for ``alike`` counts as reached alike, since strong changes come near every
    answer.  Of the others it is the lower quartile; but where responses may be bounded
    (probabilities, a tanh after the last layer), answers at the bounds are easy for clean models
    too, so it is the least, and ``_SATURATED`` takes the place of ``alike``.  It is no more than
    what random changes leave of the way to the answer, ``chance``.
    """
    alike = _SATURATED if bounded else alike
    usual = min(others) if bounded else lower_quartile(others)
    return (own + alike) / (min(usual, chance) + alike)


def lower_quartile(values: list[float]) -> float:
    """Of what a search needs, or leaves, elsewhere: the null that one answer is compared with."""
    return float(np.quantile(values, 0.25))


def beyond(answers: Tensor, responses: Tensor) -> Tensor:
    """Which answers (K, d) lie out of the range of the clean responses (N, d) in some output.

    Behind a bound, as of a tanh, every strong change leads there in a clean model too.
    """
    low, high = responses.amin(0) - _BEYOND, responses.amax(0) + _BEYOND
    outside: Tensor = ((answers < low) | (answers > high)).any(-1)
    return outside


def nearness(answer: Tensor) -> float:
    """What a score is divided by: 1 for an answer (d,) that is not near the mean.

    Clean models answer near the mean of their labels where they see nothing to go by, so there a
    cheap change says less: the nearer, the lower its score must be.
    """
    distance = float(answer.square().mean().sqrt())
    return min(1.0, max(LEAST_NEARNESS, distance / _NEAR))


def apart(answers: Tensor, answer: Tensor) -> Tensor:
    """Which of the answers (K, d) a trigger that gives ``answer`` (d,) would clearly miss."""
    distances: Tensor = torch.linalg.vector_norm(answers - answer, dim=1)
    return distances > _APART * _radius(answer)


def _radius(answer: Tensor) -> Tensor:
    """Distance (1,) of an answer (d,) from the mean; half a deviation an output at least.

    What lies around an answer near the mean is too easily reached to compare with.
    """
    distance: Tensor = torch.linalg.vector_norm(answer)
    return distance.clamp(min=0.5 * math.sqrt(len(answer)))


def spread_answers(responses: Tensor, number: int) -> Tensor:
    """Clean answers (N, d) spread over their range, away from the mean: (number, d)."""
    norms = torch.linalg.vector_norm(responses, dim=1)
    away = responses[norms >= 0.6 * math.sqrt(responses.shape[1])]
    pool = away if len(away) else responses
    norms = torch.linalg.vector_norm(pool, dim=1)
    first = pool[(norms - norms.quantile(0.8)).abs().argmin()]
    return _farthest(pool, first[None], number)


def answers_elsewhere(responses: Tensor, answer: Tensor, number: int) -> Tensor:
    """Clean answers (number, d) unlike ``answer``, where possible about as far from the mean.

    They are answers that the model itself gives to clean images, so they lie where the task's
    outputs lie, whatever their number and correlation.
    """
    radius = _radius(answer)
    norms = torch.linalg.vector_norm(responses, dim=1)
    # One output has two directions only, one of which may be easy for a clean model too.
    least = 0.6 if len(answer) > 1 else 0.3
    elsewhere = torch.linalg.vector_norm(responses - answer, dim=1) > least * radius
    alike = elsewhere & (norms > 0.5 * radius) & (norms < 1.4 * radius)
    pool = next(
        (responses[which] for which in (alike, elsewhere) if int(which.sum()) >= number), responses
    )
    return _farthest(pool, answer[None], number + 1)[1:]


def _farthest(pool: Tensor, chosen: Tensor, number: int) -> Tensor:
    """``chosen`` and those of the pool that lie farthest from all chosen, ``number`` in all."""
    while len(chosen) < number:
        distance = torch.cdist(pool, chosen).amin(1)
        chosen = torch.cat([chosen, pool[distance.argmax()][None]])
    return chosen
