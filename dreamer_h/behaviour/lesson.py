"""What a gradient step of the behaviour learns from."""

import equinox as eqx

from dreamer_h.behaviour.attitude import INDIFFERENT, Attitude
from dreamer_h.types import Latent, Pursuits, Sequence, Stack


class Lesson(eqx.Module):
    """A replayed batch and what simulators make of it; no gradient of a dream runs through it."""

    batch: Sequence  # B windows of T agent steps
    latents: Latent  # posteriors (B, T+1, ...) of the world that learns
    dreamt: Latent | Stack  # the same of the dream, which is that of the average if there is one
    pursuits: Pursuits | None = None  # what real subgoals came to, where a manager sets any
    attitude: Attitude = INDIFFERENT
