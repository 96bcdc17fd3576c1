"""A toy environment that breaks on demand, and a trainer of it that compiles once for all tests."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamer_h.config import Config
from dreamer_h.presets import preset
from dreamer_h.train import update
from dreamer_h.train.checkpoints.checkpoint import Checkpoints
from dreamer_h.train.interrupt import Interrupt
from dreamer_h.train.loop import Trainer

LENGTH = 20  # agent steps of an episode
Breaks = Callable[[int, int], str | None]  # (number of the episode, step in it, 0 = reset) -> how


class Plain(gym.Env):
    """Five numbers in [-1, 1] that lean towards the action; the reward is their mean.

    `breaks` names what goes wrong and when. It cannot tell its state: see Toy.
    """

    def __init__(self, breaks: Breaks = lambda episode, step: None, length: int = LENGTH):
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (5,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.breaks, self.episode_limit = breaks, length
        self.episode, self.time = -1, 0
        self.obs = np.zeros(5, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.time = 0
        self.obs = self.np_random.uniform(-1, 1, 5).astype(np.float32)
        return self._broken(0.0)[0], {}

    def step(self, action):
        self.time += 1
        self.obs = np.clip(0.9 * self.obs + 0.2 * action, -1, 1).astype(np.float32)
        obs, reward = self._broken(float(self.obs.mean()))
        return obs, reward, False, self.time == self.episode_limit, {}

    def _broken(self, reward: float) -> tuple[np.ndarray, float]:
        how, obs = self.breaks(self.episode, self.time), self.obs.copy()
        if how == "raises":
            raise RuntimeError("the motor burnt")
        if how == "nan":
            obs[2] = np.nan
        if how == "outside":
            obs[2] = 1.5
        if how == "shape":
            obs = obs[:4]
        return obs, {"nan reward": np.nan, "huge reward": 1e300}.get(how or "", reward)


class Toy(Plain):
    """A toy that is put back bit for bit."""

    def get_state(self) -> dict[str, np.ndarray]:
        return {"obs": self.obs, "clock": np.asarray([self.episode, self.time])}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.obs = state["obs"].copy()
        self.episode, self.time = state["clock"].tolist()


class Images(Plain):
    """The same, seen as a picture of five bars."""

    def __init__(self):
        super().__init__()
        self.observation_space = gym.spaces.Box(0, 255, (16, 16, 3), np.uint8)

    def _broken(self, reward: float) -> tuple[np.ndarray, float]:
        image = np.zeros((16, 16, 3), np.uint8)
        for bar, value in enumerate(self.obs):
            image[: int(8 * (value + 1)), 3 * bar : 3 * bar + 3, bar % 3] = 255
        return image, float(self.obs.mean())


def config(*, replay: dict[str, Any] | None = None, **changes) -> Config:
    """200 agent steps in two environments, 10 episodes, 19 updates."""
    debug = preset("debug")
    chosen = {"task": "toy", "steps": 400, "prefill": 48, "eval_every": 0, "checkpoint_every": 100,
              "log_every": 60, "average": 0.8} | changes  # fmt: skip
    behaviour = dataclasses.replace(debug.behaviour, paths=8, path_length=20, gradient_steps=2)
    return dataclasses.replace(
        debug,
        replay=dataclasses.replace(debug.replay, **replay or {}),
        **{"behaviour": behaviour, **chosen},
    )


def trainer(logdir: Path, make=Toy, replay: dict[str, Any] | None = None, **changes) -> Trainer:
    return Trainer(config(replay=replay, **changes), logdir, lambda render_mode=None: make())


def finish(trainer: Trainer) -> Trainer:
    """Trains to the end; nobody interrupts."""
    try:
        assert trainer.run(Interrupt())
    finally:
        trainer.close()
    return trainer


_updates: dict[Any, Any] = {}


def shared_update(config: Config) -> Any:
    """make_update, traced once for all configs that make the same one."""
    key = (config.precision, config.world, config.behaviour, config.optimizer, config.average)
    key += (config.levels, config.strides, config.jump, config.explore_steps)
    if key not in _updates:
        _updates[key] = update.make_update(config)
    return _updates[key]


def metrics(logdir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def same_runs(one: Path, other: Path) -> None:
    """Asserts that two runs ended alike: every array, every count, every loss, bit by bit."""
    paths = [Checkpoints(run / "checkpoints").retained()[-1] for run in (one, other)]
    assert paths[0].name == paths[1].name
    with np.load(paths[0]) as first, np.load(paths[1]) as second:
        assert first.files == second.files
        for name in first.files:
            if name != "manifest.json":
                np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        manifests = [json.loads(bytes(file["manifest.json"])) for file in (first, second)]
    for manifest in manifests:
        assert manifest.pop("seconds") > 0  # of the clock on the wall
        manifest["rows"] = [row for row in manifest["rows"] if row["what"] != "minutes"]
    assert manifests[0] == manifests[1]  # holds the sha256 of every episode of the replay
    records = [
        [{k: v for k, v in r.items() if k != "seconds" and k[:6] != "speed/"} for r in metrics(run)]
        for run in (one, other)
    ]
    assert records[0] == records[1]
