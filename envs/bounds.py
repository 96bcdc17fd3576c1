"""What stands for bounds that an environment does not have."""

import numpy as np

ENDLESS = 1000  # env steps of an episode without a limit: as long as the suite's others
UNBOUNDED = 1e6  # bounds of actions beyond this mean none (MuJoCo writes 1e10)


def bounds_of(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest action (A,), in float64: what is given; where one bound is missing
    two units from the other; where both are, -1 and 1."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    below, above = np.abs(low) < UNBOUNDED, np.abs(high) < UNBOUNDED
    lowest = np.where(below, low, np.where(above, high - 2.0, -1.0))
    return lowest, np.where(above, high, np.where(below, low + 2.0, 1.0))
