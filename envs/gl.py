"""OpenGL only when a frame is asked for: `import envs` opens no display.

dm_control picks and initialises its GL backend while it is imported, and fails to import where the
library is missing. So the suite is imported with rendering off, and the backend is chosen at the
first frame.
"""

import functools
import importlib
import os
import sys
import warnings
from typing import Any

_OFF = ("disable", "disabled", "off", "false", "0")
_REMEDY = "install the package libegl1 (`apt-get install libegl1`) and set MUJOCO_GL=egl"


def _import_quietly(*names: str) -> tuple[Any, ...]:
    """Imports modules with rendering switched off, and leaves the environment as it was."""
    asked = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        return tuple(importlib.import_module(name) for name in names)
    finally:
        if asked is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = asked


# take both from here: mujoco, too, looks for a GL library where MUJOCO_GL names one
mujoco, suite = _import_quietly("mujoco", "dm_control.suite")


@functools.cache
def _failure() -> str | None:
    """Switches dm_control's rendering on once; returns why it does not work, or None."""
    asked = os.environ.get("MUJOCO_GL")
    if asked in _OFF:
        return f"MUJOCO_GL={asked} switches rendering off"
    os.environ["MUJOCO_GL"] = asked or ("egl" if sys.platform == "linux" else "glfw")
    try:
        # reloaded in place: dm_control's engine keeps a reference to this module
        importlib.reload(importlib.import_module("dm_control._render"))
        engine = importlib.import_module("dm_control.mujoco.engine")
        physics = engine.Physics.from_xml_string("<mujoco/>")
        try:
            physics.render(8, 8)
        finally:
            physics.free()
    except Exception as error:  # a missing library shows as one of four types, PyOpenGL's included
        return f"MUJOCO_GL={os.environ['MUJOCO_GL']}: {type(error).__name__}: {error}"
    return None


@functools.cache
def video_available() -> bool:
    """True if frames can be rendered off screen; otherwise warns once and returns False."""
    failure = _failure()
    if failure is not None:
        warnings.warn(f"no OpenGL, so no video ({failure}); {_REMEDY}", stacklevel=2)
    return failure is None


def require() -> None:
    """Switches rendering on. Raises RuntimeError, naming the package, where it does not work."""
    failure = _failure()
    if failure is not None:
        raise RuntimeError(f"no OpenGL to render with ({failure}); {_REMEDY}")


class QuietContexts:
    """Mixin for a dm_control `Physics`: opens no GL context until `may_render` is set.

    quadruped-escape reads `physics.contexts` at every reset, to upload its terrain, and reading it
    opens a context: without this the task does not run where there is no GL.
    """

    may_render = False
    _contexts: Any

    @property
    def contexts(self) -> Any:
        return super().contexts if self.may_render else self._contexts  # type: ignore[misc]


def silence(physics: Any) -> None:
    """Puts `QuietContexts` in front of the class of this physics."""
    cls = type(physics)
    physics.__class__ = type(cls.__name__, (QuietContexts, cls), {})
