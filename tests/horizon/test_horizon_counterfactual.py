"""Other actions, played by physics that can be restarted."""

import numpy as np

from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.horizon.scoring.counterfactual import altered


class Cart:
    """Its place adds up the actions; its reward is the last one."""

    def __init__(self):
        self.at = np.zeros(2)

    def restore(self, moment):
        self.at = moment["at"].copy()

    def step(self, action):
        self.at += action
        return self.at.copy(), float(action.sum())

    def moment(self):
        return {"at": self.at.copy()}

    def place(self):
        return self.at.copy()

    def displacement(self, since):
        return self.at - since

    def nudge(self, by):
        self.at += by
        return self.at.copy()


def test_only_the_first_actions_change_and_everything_follows():
    rng = np.random.default_rng(0)
    action = rng.uniform(-1, 1, (3, 5, 2))
    begin = rng.normal(size=(3, 2))
    future = begin[:, None] + np.cumsum(action, axis=1)
    windows = Windows(
        episode=np.arange(3), start=np.zeros(3, int), context_obs=begin[:, None],
        context_action=np.zeros((3, 0, 2)), action=action, future_obs=future,
        future_reward=action.sum(-1), moments=[{"at": row} for row in begin],
    )  # fmt: skip
    found = altered(windows, Cart(), 2, np.random.default_rng(1), iter)
    assert (found.action[:, :2] != action[:, :2]).all()
    np.testing.assert_array_equal(found.action[:, 2:], action[:, 2:])
    np.testing.assert_allclose(found.future_obs, begin[:, None] + np.cumsum(found.action, axis=1))
    np.testing.assert_allclose(found.future_reward, found.action.sum(-1))
    np.testing.assert_array_equal(windows.action, action)  # what happened stays
