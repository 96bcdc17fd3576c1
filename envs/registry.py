"""Names, and how to make an environment from one."""

import difflib
from functools import partial
from importlib import import_module
from typing import Any, cast

import gymnasium as gym

from envs import probe
from envs.dmc import DmcEnv
from envs.foreign import ForeignEnv
from envs.gl import suite


def tasks() -> list[str]:
    """Short names of all suite tasks, benchmarking and extra, such as "walker-walk"."""
    return [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]


def register_all() -> None:
    """Registers `dmc/<domain>-<task>-v0`, `probe/<name>-<ending>-v0`, `dreamer_h/Learned-v0`."""
    # no max_episode_steps and no order check: the environments truncate and check by themselves
    register = partial(gym.register, order_enforce=False)
    for task in tasks():
        register(f"dmc/{task}-v0", "envs.dmc:DmcEnv", kwargs={"task": task})
    # by name: whoever only wants a suite task needs no jax
    register(
        "dreamer_h/Learned-v0",
        "envs.learned:LearnedEnv",
        vector_entry_point="envs.learned:LearnedVectorEnv",
    )
    for name in probe.NAMES:
        for ending in probe.ENDINGS:
            kwargs = {"name": name, "ending": ending}
            register(f"probe/{name}-{ending}-v0", "envs.probe:Probe", kwargs=kwargs)


def make(
    task: str,
    *,
    obs: str = "state",
    action_repeat: int = 2,
    size: int = 64,
    camera: int | str | None = None,
    seed: int | None = None,
    render_mode: str | None = None,
    gravity: float = 1.0,
    mass: float = 1.0,
) -> DmcEnv | ForeignEnv:
    """One environment: "walker-walk", "dmc/walker-walk-v0", or any Gymnasium id with Box spaces,
    "module:id" too.

    obs is "state" (flat float32) or "pixels" (uint8, `size` squared, from `camera`; suite only).
    `seed` serves the first reset if that brings none. `gravity` and `mass` are factors, of a suite
    task's gravity and of its heaviest body. The result has `layout`, `dt` and
    `episode_limit`; suite tasks also `get_state`, `set_state`, `observation` and `physics`.
    Raises ValueError for an unknown name, with the nearest ones.
    """
    if render_mode not in (None, "rgb_array"):  # before Gymnasium puts a wrapper around it
        raise ValueError(f"render_mode is {render_mode!r}; it must be None or 'rgb_array'")
    name = short_name(task)
    if ":" in name:  # Gymnasium's "module:id" registers what it names
        module, _, name = name.partition(":")
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(f"no task {task!r}: {error}") from error
    name = f"dmc/{name}-v0" if name in tasks() else name
    if name.startswith("dmc/") and name in gym.registry:
        kwargs: dict[str, Any] = {"obs": obs, "action_repeat": action_repeat, "size": size}
        kwargs |= {"camera": camera, "seed": seed, "render_mode": render_mode}
        kwargs |= {"gravity": gravity, "mass": mass}
        return cast(DmcEnv, gym.make(name, disable_env_checker=True, **kwargs))
    if name not in gym.registry:
        raise ValueError(_unknown(task))
    if obs != "state":
        raise ValueError(f"obs={obs!r} for {task}: only suite tasks give pixels; set obs='state'")
    if (gravity, mass) != (1.0, 1.0):
        raise ValueError(f"gravity {gravity}, mass {mass} for {task}: only suite tasks have others")
    drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    inner = gym.make(name, disable_env_checker=True, **drawn)  # not all know a render_mode
    return ForeignEnv(inner, action_repeat=action_repeat, seed=seed)


def make_vec(task: str, n: int, *, seed: int | None = None, **options: Any) -> gym.vector.VectorEnv:
    """`n` environments in one process; number i gets seed + i. `options` are those of `make`."""
    seeds = [None if seed is None else seed + i for i in range(n)]
    return gym.vector.SyncVectorEnv([partial(make, task, seed=s, **options) for s in seeds])


def short_name(task: str) -> str:
    """ "walker-walk" for each way of writing it; other environments' ids as they are."""
    name = task.removeprefix("envs:")
    suite_name = name.removeprefix("dmc/").removesuffix("-v0")
    return suite_name if suite_name in tasks() else name


def _unknown(task: str) -> str:
    names = [*tasks(), *gym.registry]
    near = difflib.get_close_matches(task, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "envs.tasks() lists the suite's"
    return f"no task {task!r}; {hint}"
