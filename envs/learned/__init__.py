"""The learned simulator of a run as an environment: single, vectorised, and in pure jax."""

from envs.learned.env import LearnedEnv
from envs.learned.gymnax import LearnedGymnax, to_gymnax
from envs.learned.vector import LearnedVectorEnv

__all__ = ["LearnedEnv", "LearnedGymnax", "LearnedVectorEnv", "to_gymnax"]
