"""Independent streams from one seed: who draws what is decided here, so that none collide."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purposes of a random stream; the numbers are stored in nothing but must not change."""

    COLLECT = 0  # resets of the training environments
    EVALUATE = 1  # resets of the evaluations during training
    TEST = 2  # resets of scripts/evaluate.py: never used in training
    REPLAY = 3  # which windows are replayed
    PREFILL = 4  # random actions
    ACT = 5  # codes and actions while collecting
    PLAY = 6  # codes and actions while evaluating
    CALIBRATE = 7  # resets of episodes that radii and crossovers are measured on after training


def derive(seed: int, stream: Stream, *index: int) -> int:
    """A 31-bit seed for one purpose; different indices are independent.

    A stream is always asked with the same number of indices: (i) and (i, 0) are the same to numpy.
    """
    sequence = np.random.SeedSequence((seed, int(stream), *index))
    return int(sequence.generate_state(1, np.uint32)[0] >> 1)
