"""Save and restore a dm_control environment bit for bit, as plain numpy arrays.

integration    MuJoCo's mjSTATE_INTEGRATION, float64: qpos, qvel, act, ctrl, warm start, time, ...
sensordata     acceleration sensors belong to the previous step and are not recomputed, float64
model/<field>  the model arrays that the task draws at reset, such as a target's place
step           environment steps since the reset, int64
task_rng       the words of the task's RandomState, uint32
python         the task's attributes and the remaining random state, JSON in uint8

Arrays of one task have the same shapes in every state, so states can be stacked.
"""

import json
from functools import cache
from typing import Any

import numpy as np

from envs import gl
from envs.gl import mujoco

_FULL = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_PAD = 1024  # bytes; JSON is padded with blanks to a multiple, as its numbers vary in length

State = dict[str, np.ndarray]


def load(task: str, seed: int) -> Any:
    """A dm_control environment that renders only when asked. lqr draws its model from `seed`."""
    domain, _, name = task.partition("-")
    env = gl.suite.load(domain, name, task_kwargs={"random": seed})
    gl.silence(env.physics)
    return env


@cache
def randomised_fields(task: str) -> tuple[str, ...]:
    """Names of the mjModel arrays that the task changes at reset, found by resetting a copy."""
    env = load(task, seed=0)
    compiled = _model_arrays(env.physics)
    changed: set[str] = set()
    for _ in range(3):
        env.reset()
        now = _model_arrays(env.physics)
        changed |= {k for k in now if not np.array_equal(now[k], compiled[k], equal_nan=True)}
    env.close()
    return tuple(sorted(changed))


def _model_arrays(physics: Any) -> State:
    model = physics.model.ptr
    fields = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {k: v.copy() for k, v in fields.items() if isinstance(v, np.ndarray)}


def pack(env: Any, name: str, extra: dict[str, Any]) -> State:
    """The whole state of the dm_control environment of task `name`.

    `extra` is JSON and comes back from `unpack`.
    """
    data, model = env.physics.data.ptr, env.physics.model.ptr
    _, words, *tail = env.task.random.get_state()
    python = {
        "name": name,
        "task": {k: _encode(k, v) for k, v in vars(env.task).items() if k != "_random"},
        "task_rng": [float(value) for value in tail],
        "reset_next": bool(env._reset_next_step),
        "extra": extra,
    }
    fields = randomised_fields(name)
    return {
        "integration": env.physics.get_state(_FULL),
        "sensordata": data.sensordata.copy(),
        **{f"model/{field}": getattr(model, field).copy() for field in fields},
        "step": np.asarray(env._step_count, np.int64),
        "task_rng": words.copy(),
        "python": _to_bytes(python),
    }


def unpack(env: Any, name: str, state: State) -> dict[str, Any]:
    """Puts `state` into `env` and returns `extra`. Raises ValueError for another task's state."""
    python = json.loads(bytes(state["python"]))
    if python["name"] != name:
        raise ValueError(f"the state is of {python['name']}; {name} needs one of its own get_state")
    data, model = env.physics.data.ptr, env.physics.model.ptr
    fields = randomised_fields(name)
    for field in fields:
        getattr(model, field)[...] = state[f"model/{field}"]
    if "hfield_data" in fields and env.physics._contexts:
        env.physics._free_rendering_contexts()  # the card still holds the former terrain
    env.physics.set_state(state["integration"], _FULL)
    # what dm_control's step leaves behind: positions and velocities up to date, forces not
    mujoco.mj_step1(model, data)
    data.sensordata[:] = state["sensordata"]
    position, has_gauss, gauss = python["task_rng"]
    env.task.random.set_state(("MT19937", state["task_rng"], int(position), int(has_gauss), gauss))
    for attribute in set(vars(env.task)) - set(python["task"]) - {"_random"}:
        delattr(env.task, attribute)
    vars(env.task).update({k: _decode(v) for k, v in python["task"].items()})
    env._step_count = int(state["step"])
    env._reset_next_step = python["reset_next"]
    return python["extra"]


def _encode(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()  # JSON writes a float64 with enough digits to be exact
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "array": value.tolist()}
    if value is None or isinstance(value, bool | int | float | str | list):
        return value
    raise TypeError(
        f"task attribute {name} is a {type(value).__name__}, which get_state cannot save; "
        f"teach envs/state.py to"
    )


def _decode(value: Any) -> Any:
    return np.array(value["array"], value["dtype"]) if isinstance(value, dict) else value


def _to_bytes(python: dict[str, Any]) -> np.ndarray:
    text = json.dumps(python).encode()
    return np.frombuffer(text.ljust(-(-len(text) // _PAD) * _PAD), np.uint8).copy()
