"""Recordings without a simulator behind them, for tests: stationary noise, or a linear system."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from dreamer_h.horizon.recorded.recording import episode_path, load_recording, split_of

LAYOUT = [
    {"name": "place", "start": 0, "stop": 2, "kind": "position"},
    {"name": "speed", "start": 2, "stop": 3, "kind": "velocity"},
]


def write(folder: Path, episodes: list[dict[str, np.ndarray]], layout=LAYOUT, task="toy"):
    """A finished recording of these arrays, without physical states."""
    (folder / "episodes").mkdir(parents=True)
    described = []
    for number, arrays in enumerate(episodes):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        episode_path(folder, number).write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        split = split_of(number, len(episodes))
        described.append({"split": split, "sha256": digest, "env_seed": None})
    manifest = {
        "schema_version": 1, "task": task, "behaviour": "noise", "tick": 8, "action_repeat": 2,
        "dt": 0.05, "restartable": False, "layout": layout, "versions": {}, "hash": "abc",
        "episodes": described,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return load_recording(folder)


def stationary(folder: Path, count: int = 60, length: int = 120, seed: int = 0):
    """Independent normal draws: nothing can be predicted, and everything is known of that."""
    rng = np.random.default_rng(seed)
    episodes = [
        arrays(rng.normal(size=(length + 1, 3)) * [1.0, 5.0, 0.1], rng) for _ in range(count)
    ]
    return write(folder, episodes)


def driven(folder: Path, count: int = 30, length: int = 120, seed: int = 0):
    """x' = 0.95 x + 0.2 a with a little noise: what a linear model knows all about."""
    rng = np.random.default_rng(seed)
    episodes = []
    for _ in range(count):
        action = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        obs = np.zeros((length + 1, 3))
        for t in range(length):
            push = np.array([action[t, 0], action[t, 1], action[t].sum()])
            obs[t + 1] = 0.95 * obs[t] + 0.2 * push + 1e-3 * rng.normal(size=3)
        episodes.append(arrays(obs, rng, action))
    return write(folder, episodes)


def arrays(obs, rng, action=None):
    length = len(obs) - 1
    action = rng.uniform(-1, 1, (length, 2)) if action is None else action
    reward = np.concatenate([[0.0], obs[1:, 0]])
    return {
        "obs": obs.astype(np.float32),
        "action": action.astype(np.float32),
        "reward": reward.astype(np.float32),
        "is_terminal": np.zeros(length + 1, bool),
    }
