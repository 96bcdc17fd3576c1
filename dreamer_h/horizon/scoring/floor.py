"""The floor: how wrong physics itself becomes, restarted a little beside the truth.

exact          the recorded state and actions: nothing else than 0 may come out
float32        the recorded state rounded to float32
perturbed      the start displaced by PERTURBED deviations of the state
noise          the state displaced at every agent step, at eight levels: matched to a model's
               one-step error these are the oracle that the model's growth is held against
lyapunov       how fast neighbours part (1/s): Benettin et al. (1980), along the recorded actions
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Protocol

import numpy as np
from dm_control.rl.control import PhysicsError

from dreamer_h.files import replacing
from dreamer_h.horizon.parallel import Progress, spread
from dreamer_h.horizon.recorded.recording import Recording
from dreamer_h.horizon.recorded.scale import Scale, wrapped
from dreamer_h.horizon.recorded.windows import Windows
from dreamer_h.types import Moment, Physics

LEVELS = tuple(float(level) for level in np.logspace(-3.5, 0.0, 8))  # deviations of the state
PERTURBED = 1e-2  # deviations of the state
SEPARATION = 1e-7  # deviations between the two copies that the Lyapunov exponent follows
BURN_IN = 20  # agent steps before they count
LYAPUNOV_STEPS = 200  # agent steps along which it is averaged

VERSION = 2  # of what is measured; floors of other versions are measured again
PLATEAU = 0.9  # share of the farthest that an error gets, from which it counts as saturated


class Turning(Physics, Protocol):
    """Physics that knows which of its coordinates come round again."""

    def turns(self) -> np.ndarray:
        """(V,) bool: angles without limits, which add up over turns."""
        ...


MakePhysics = Callable[[], Turning]


@dataclass(frozen=True)
class Floor:
    """Errors of physics against itself, for W windows and H steps."""

    exact: np.ndarray  # (W, H) nrmse
    float32: np.ndarray
    perturbed: np.ndarray
    noise: np.ndarray  # (8, W, H), one for each of LEVELS
    lyapunov: np.ndarray  # (W,) 1/s

    def oracle(
        self, one_step: float, statistic: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray | None:
        """(H,) `statistic` over windows of the noise whose first step is as wrong as `one_step`.

        Interpolated between two levels, in logarithms of both. None outside what was measured.
        """
        curves = np.stack([statistic(level) for level in self.noise])  # (8, H)
        first = np.log(np.maximum.accumulate(curves[:, 0]))
        wanted = np.log(one_step)
        if not first[0] <= wanted <= first[-1]:
            return None
        place = int(np.clip(np.searchsorted(first, wanted) - 1, 0, len(first) - 2))
        share = (wanted - first[place]) / max(first[place + 1] - first[place], 1e-12)
        low, high = np.log(np.maximum(curves[place : place + 2], 1e-12))
        return np.exp((1 - share) * low + share * high)


def saturation(curve: np.ndarray) -> tuple[int, bool]:
    """The first horizon, in agent steps, at which an error (H,) is PLATEAU of its maximum, or 1.

    And whether it is censored. An error that is PLATEAU of its maximum in the last quarter only
    has not been seen to level off: it must reach 1, else the horizon is H, a lower bound.
    """
    plateau = PLATEAU * curve.max()
    levelled = (curve >= plateau).argmax() < 0.75 * len(curve)
    reached = curve >= (min(1.0, plateau) if levelled else 1.0)
    return (int(reached.argmax()) + 1, False) if reached.any() else (len(curve), True)


def deviations(rows: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """(V,) standard deviation of (N, V); where it `turns`, about the circular mean.

    As in Scale: root mean square distance the short way round. At most pi, and pi / sqrt(3) where
    all angles are alike.
    """
    centre = rows.mean(axis=0)
    centre[turns] = np.angle(np.exp(1j * rows[:, turns]).mean(axis=0))
    away = rows - centre
    away[:, turns] = wrapped(away[:, turns])
    return np.sqrt((away**2).mean(axis=0))


def state_std(make_physics: MakePhysics, recording: Recording, episodes: int = 20) -> np.ndarray:
    """(V,) deviation of the physics' state over training episodes; 0 where nothing moves."""
    physics, since, rows = make_physics(), None, []
    for number in recording.numbers("train")[:episodes]:
        for moment in recording.read(number)[1][::4]:
            physics.restore(moment)
            since = physics.place() if since is None else since
            rows.append(physics.displacement(since))
    return deviations(np.stack(rows), physics.turns())


def measured(
    make_physics: MakePhysics,
    recording: Recording,
    windows: Windows,
    scale: Scale,
    *,
    jobs: int,
    name: str = "floor",
    progress: Progress = iter,
) -> Floor:
    """The floor of these windows; it is kept in `<name>.npz` beside the recording."""
    path = recording.folder / f"{name}.npz"
    own = {"episode": windows.episode, "start": windows.start, "levels": np.array(LEVELS)}
    own |= {"future": windows.future_obs[:, -1], "version": np.array(VERSION)}
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            if all(n in file and np.array_equal(file[n], value) for n, value in own.items()):
                return Floor(**{field.name: file[field.name] for field in fields(Floor)})
    std = state_std(make_physics, recording)
    floor = measure(make_physics, windows, scale, std, recording.dt, jobs=jobs, progress=progress)
    with replacing(path) as file:
        np.savez_compressed(file, **own, **vars(floor))
    return floor


def measure(
    make_physics: MakePhysics,
    windows: Windows,
    scale: Scale,
    std: np.ndarray,
    dt: float,
    *,
    jobs: int,
    progress: Progress = iter,
) -> Floor:
    """The floor of these windows, over `jobs` processes. `dt` is seconds per agent step."""
    assert windows.moments, "the physics' state was not recorded"
    tools = partial(_tools, make_physics, windows, scale, std, dt)
    found = spread(tools, _measure_window, list(range(len(windows))), jobs, progress)
    exact, rounded, perturbed, noise, lyapunov = zip(*found, strict=True)
    return Floor(
        np.stack(exact), np.stack(rounded), np.stack(perturbed), np.stack(noise, axis=1),
        np.array(lyapunov),
    )  # fmt: skip


def _tools(make_physics: MakePhysics, *others: Any) -> tuple:
    return make_physics(), *others


def _measure_window(tools: tuple, number: int) -> tuple:
    physics, windows, scale, std, dt = tools
    moment, action = windows.moments[number], windows.action[number]
    future = windows.future_obs[number]
    rng = np.random.default_rng(number)

    def error(obs: np.ndarray) -> np.ndarray:
        return np.sqrt((scale.difference(obs, future) ** 2).mean(axis=-1))

    exact = error(replay(physics, moment, action))
    rounded = error(replay(physics, in_float32(moment), action))
    beside = rng.normal(size=len(std)) * std
    perturbed = error(replay(physics, moment, action, start=PERTURBED * beside))
    levels = []
    for level in LEVELS:
        noise = level * std * rng.normal(size=(len(action), len(std)))
        levels.append(error(replay(physics, moment, action, noise=noise)))
    exponent = lyapunov(physics, moment, action, std, dt, rng)
    return exact, rounded, perturbed, np.stack(levels), exponent


def replay(
    physics: Physics,
    moment: Moment,
    action: np.ndarray,
    *,
    start: np.ndarray | None = None,
    noise: np.ndarray | None = None,
) -> np.ndarray:
    """Observations (H, O) under actions (H, A), displaced at the start or by (H, V) on the way.

    A displacement that the physics cannot go on from is left out. Where it fails all the same, the
    observation stays what it was.
    """
    physics.restore(moment)
    undisplaced, seen = moment, []
    if start is not None:
        physics.nudge(start)
    for t, chosen in enumerate(action):
        try:
            obs = stepped(physics, chosen, undisplaced)
        except PhysicsError:
            if not seen:
                raise
            return np.stack(seen + [seen[-1]] * (len(action) - t))
        undisplaced = None if noise is None else physics.moment()
        seen.append(obs if noise is None else physics.nudge(noise[t]))
    return np.stack(seen)


def stepped(physics: Physics, action: np.ndarray, undisplaced: Moment | None) -> np.ndarray:
    """The observation (O,) after a step, or after that from the undisplaced moment if it fails."""
    try:
        return physics.step(action)[0]
    except PhysicsError:
        if undisplaced is None:
            raise
        physics.restore(undisplaced)
        return physics.step(action)[0]


def in_float32(moment: Moment) -> Moment:
    """The moment as a float32 data set would have kept it."""
    return {
        name: value.astype(np.float32).astype(np.float64) if value.dtype == np.float64 else value
        for name, value in moment.items()
    }


def lyapunov(
    physics: Physics,
    moment: Moment,
    action: np.ndarray,
    std: np.ndarray,
    dt: float,
    rng: np.random.Generator,
) -> float:
    """Largest exponent, 1/s: a copy follows at SEPARATION and is drawn back at every step.

    NaN for windows that end within the burn-in, or where the copy breaks the physics.
    """
    moves = std > 0
    unit = np.where(moves, std, 1.0)
    apart = np.where(moves, rng.normal(size=len(std)), 0.0)
    apart *= SEPARATION / np.linalg.norm(apart)
    physics.restore(moment)
    physics.nudge(apart * unit)
    truth, copy, growth = moment, physics.moment(), []
    for chosen in action[:LYAPUNOV_STEPS]:
        physics.restore(truth)
        physics.step(chosen)
        following, here = physics.moment(), physics.place()
        physics.restore(copy)
        try:
            physics.step(chosen)
        except PhysicsError:
            return float("nan")
        away = np.where(moves, physics.displacement(here) / unit, 0.0)
        distance = np.linalg.norm(away)
        if not 0 < distance < np.inf:
            return float("nan")
        growth.append(np.log(distance / SEPARATION))
        physics.restore(following)
        physics.nudge(away * (SEPARATION / distance) * unit)
        truth, copy = following, physics.moment()
    counted = growth[BURN_IN:]
    return float(np.mean(counted) / dt) if counted else float("nan")
