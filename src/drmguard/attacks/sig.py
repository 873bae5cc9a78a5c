"""SIG (Barni et al., 2019): vertical stripes, here with the target vector as label."""

from __future__ import annotations

from drmguard.attacks.attack import AttackContext, FixedPoisoning, poison_at_random
from drmguard.triggers.sinusoid import SinusoidTrigger


def sig(
    context: AttackContext, *, amplitude: float = 40 / 255, frequency: float = 6.0
) -> FixedPoisoning:
    """Add a sinusoid to 10 % of the training set.

    Args:
        context: what to attack.
        amplitude: δ on images in [0, 1]; 40/255 in the papers.
        frequency: waves over the width; 6 in the papers.

    Raises:
        InputError: an impossible wave or rate.
    """
    return poison_at_random(context, SinusoidTrigger(amplitude, frequency), 0.1)
