"""Environments: every dm_control suite task, registered as `dmc/<domain>-<task>-v0` on import."""

from envs.dmc import DmcEnv
from envs.foreign import ForeignEnv
from envs.gl import video_available
from envs.layout import Field
from envs.registry import make, make_vec, register_all, short_name, tasks

register_all()

__all__ = [
    "DmcEnv",
    "Field",
    "ForeignEnv",
    "make",
    "make_vec",
    "short_name",
    "tasks",
    "video_available",
]
