"""Another physics under the same task: heavier, lighter, on another planet."""

import warnings
from typing import Any

from envs.gl import mujoco


def change(physics: Any, *, gravity: float, mass: float) -> None:
    """Multiplies gravity, and mass and inertia of the heaviest body, in a compiled model.

    Warns where gravity is switched off (finger), so that its factor changes nothing.
    Raises ValueError for a factor that is not above 0.
    """
    for name, factor in (("gravity", gravity), ("mass", mass)):
        if not factor > 0:
            raise ValueError(f"{name} is {factor}; it is a factor, and must be above 0")
    model, data = physics.model.ptr, physics.data.ptr
    if gravity != 1.0 and model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_GRAVITY:
        warnings.warn(f"gravity {gravity:g}: this task has it switched off", stacklevel=3)
    model.opt.gravity[:] *= gravity
    heaviest = int(model.body_mass.argmax())
    model.body_mass[heaviest] *= mass
    model.body_inertia[heaviest] *= mass
    mujoco.mj_setConst(model, data)  # what MuJoCo has worked out from them
