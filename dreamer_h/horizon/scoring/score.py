"""One simulator on one recording: what it is asked, and how wrong each answer is."""

from dataclasses import dataclass, replace

import numpy as np

from dreamer_h.horizon.recorded.recording import Recording
from dreamer_h.horizon.recorded.scale import Scale
from dreamer_h.horizon.recorded.windows import (
    HORIZONS,
    SHORT,
    SHORT_PER_EPISODE,
    Windows,
    choose,
    longest_horizon,
)
from dreamer_h.horizon.scoring.distance import energy_distance
from dreamer_h.horizon.scoring.floor import Floor
from dreamer_h.horizon.scoring.metrics import Errors, errors, periods
from dreamer_h.horizon.scoring.slow import Quantities, slow_errors
from dreamer_h.horizon.simulator import SAMPLES, Context, Forecast, Simulator
from dreamer_h.horizon.simulators.yardsticks import YARDSTICKS
from dreamer_h.horizon.statistics import resamples


@dataclass(frozen=True)
class Benchmark:
    """What every model of a recording is scored on: windows, scale, yardsticks and the floor."""

    recording: Recording
    scale: Scale
    far: Windows  # test: one window an episode, as long as the episodes allow
    near: Windows  # test: more of them, SHORT steps long
    calibration: Windows  # one an episode
    quantities: Quantities
    floor: Floor | None  # of `far`, where the physics can be restarted

    @property
    def horizons(self) -> list[int]:
        return [h for h in HORIZONS if h <= self.far.horizon]


@dataclass(frozen=True)
class Scored:
    """Per-window errors of one simulator; leaves (W, H)."""

    samples: int  # 1: the simulator makes point forecasts
    far: Errors
    near: Errors
    calibration: Errors
    shuffled: Errors  # far, under the actions of another window
    distance: dict[int, np.ndarray]  # (R+1,) resampled energy distance of the states, by horizon

    def at(self, name: str, h: int, bench: Benchmark) -> tuple[np.ndarray, np.ndarray]:
        """Values (W,) and episodes (W,) of all windows that reach so far."""
        values, episodes = self.far[name][:, h - 1], bench.far.episode
        if h > bench.near.horizon:
            return values, episodes
        return (
            np.concatenate([values, self.near[name][:, h - 1]]),
            np.concatenate([episodes, bench.near.episode]),
        )


def benchmark(recording: Recording, quantities: Quantities) -> Benchmark:
    """The windows of a recording, as far as its episodes reach; the floor is not measured yet."""
    scale = Scale.fit(recording.train, recording.layout)
    lengths = [len(recording.episode(number)) for number in recording.numbers("test")]
    horizon = longest_horizon(lengths, recording.tick)
    far = choose(recording, "test", horizon, 1)
    near = choose(recording, "test", min(SHORT, horizon), SHORT_PER_EPISODE)
    calibration = choose(recording, "calibration", horizon, 1)
    return Benchmark(recording, scale, far, near, calibration, quantities, None)


def questions(bench: Benchmark) -> dict[str, Windows]:
    """What every simulator is asked, in this order."""
    shuffled = replace(bench.far, action=np.roll(bench.far.action, 1, axis=0))
    return {
        "far": bench.far,
        "near": bench.near,
        "calibration": bench.calibration,
        "shuffled": shuffled,
    }


def ask(simulator: Simulator, parts: dict[str, Windows], *, seed: int = 0) -> dict[str, Forecast]:
    """What the simulator says of each part, from contexts and actions alone."""
    answers = {}
    for number, (name, windows) in enumerate(parts.items()):
        own = len(parts) * seed + number
        # copies: what other people's code does to them must not change what others are asked
        context = Context(windows.context_obs.copy(), windows.context_action.copy())
        state = simulator.start(context, seed=own)
        found = simulator.imagine(state, windows.action.copy(), SAMPLES, seed=own)
        answers[name] = answered(found, windows)
    return answers


def answered(found: Forecast, windows: Windows) -> Forecast:
    """A forecast as arrays. Raises ValueError for one that does not answer the windows."""
    obs = np.asarray(found.obs)
    needed = (len(windows), windows.horizon, windows.context_obs.shape[-1])
    if obs.ndim != 4 or obs.shape[1:] != needed or len(obs) == 0:
        raise ValueError(
            f"imagine gave observations of shape {obs.shape}; needed is (samples, windows, steps, "
            f"entries): (S, {', '.join(map(str, needed))})"
        )
    if found.reward is None:
        return Forecast(obs, None)
    reward = np.asarray(found.reward)
    if reward.shape != obs.shape[:3]:
        raise ValueError(f"imagine gave rewards of shape {reward.shape}; needed is {obs.shape[:3]}")
    return Forecast(obs, reward)


def score(answers: dict[str, Forecast], bench: Benchmark) -> Scored:
    """Per-window errors of the answers to `questions`."""
    parts = questions(bench)
    errors = {name: judged(answers[name], windows, bench) for name, windows in parts.items()}
    distance = {h: _distance(answers["far"], bench, h) for h in bench.horizons}
    return Scored(len(answers["far"].obs), **errors, distance=distance)


def judged(found: Forecast, windows: Windows, bench: Benchmark) -> Errors:
    """Errors of a forecast, those of the slow quantities among them."""
    return errors(found, windows, bench.scale) | slow_errors(
        found, windows, bench.quantities, bench.recording.train
    )


def _distance(found: Forecast, bench: Benchmark, h: int) -> np.ndarray:
    guess = bench.scale.deviations(np.asarray(found.obs[:, :, h - 1]))
    truth = bench.scale.deviations(bench.far.future_obs[:, h - 1])
    return energy_distance(guess, truth, periods(bench.scale), resamples(bench.far.episode))


def yardstick_scores(bench: Benchmark) -> dict[str, Scored]:
    """Every yardstick on the same windows."""
    made = {name: kind.fit(bench.recording.train, bench.scale) for name, kind in YARDSTICKS.items()}
    parts = questions(bench)
    return {name: score(ask(simulator, parts), bench) for name, simulator in made.items()}
