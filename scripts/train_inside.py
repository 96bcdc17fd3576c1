"""Train somebody else's agent inside the simulator of a run, and play it in the real task:

    python scripts/train_inside.py --run runs/cartpole --algorithm sb3-ppo --steps 500000

Both returns are of episodes that begin as the real task's do. Stable-Baselines3 is an extra:
`pip install -e .[sb3]`. `rejax-ppo` compiles training and simulator into one program; what it needs
does not allow this version of Gymnasium, so that `make test-agents` installs it around that.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.random as jr
import numpy as np

import envs
from dreamer_h.files import write_json
from dreamer_h.train.checkpoints.load import load_config
from dreamer_h.train.evaluation.evaluate import interval
from dreamer_h.train.runtime import run_script
from envs.learned import LearnedVectorEnv, to_gymnax

ROLLOUT = 16384  # agent steps between two gradients, of all environments together

Act = Callable[[np.ndarray], np.ndarray]  # observations (N, O) -> actions (N, A), the likeliest


def sb3_ppo(chosen: argparse.Namespace) -> tuple[Act, float]:
    """PPO of Stable-Baselines3 with its defaults, but for batches that fit so many environments."""
    from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]

    from envs.learned.sb3 import to_sb3

    env = to_sb3(str(chosen.run), chosen.envs, starts=chosen.starts)
    rollout = max(1, ROLLOUT // chosen.envs)  # agent steps of each environment
    model = PPO(
        "MlpPolicy", env, seed=chosen.seed, n_steps=rollout, device="cpu",
        batch_size=min(512, rollout * chosen.envs), verbose=1,
    )  # fmt: skip
    began = time.perf_counter()
    model.learn(chosen.steps)
    seconds = time.perf_counter() - began
    model.save(chosen.out / "agent.zip")
    return lambda obs: model.predict(obs, deterministic=True)[0], seconds


def rejax_ppo(chosen: argparse.Namespace) -> tuple[Act, float]:
    """PPO of rejax with the numbers of Stable-Baselines3's, but that rewards are normalised: its
    values are clipped around those of before."""
    import flax.serialization  # pyright: ignore[reportMissingImports]
    from rejax import PPO  # pyright: ignore[reportMissingImports]

    if ROLLOUT % chosen.envs:
        near = 2 ** round(np.log2(min(chosen.envs, ROLLOUT)))
        raise ValueError(
            f"--envs is {chosen.envs}; rejax-ppo divides {ROLLOUT} agent steps among them: set it "
            f"to a power of two, like {near}"
        )
    env = to_gymnax(chosen.run, starts=chosen.starts)
    ppo = PPO.create(
        env=env, env_params=env.default_params, skip_initial_evaluation=True,
        total_timesteps=chosen.steps, eval_freq=chosen.steps, num_envs=chosen.envs,
        num_steps=ROLLOUT // chosen.envs, num_minibatches=ROLLOUT // 512, num_epochs=10,
        learning_rate=3e-4, ent_coef=0.0, max_grad_norm=0.5, normalize_rewards=True,
    )  # fmt: skip
    ppo = ppo.replace(eval_callback=lambda *_: None)
    train = jax.jit(lambda key: ppo.train(key)[0]).lower(jr.key(0)).compile()
    began = time.perf_counter()
    state = jax.block_until_ready(train(jr.key(chosen.seed)))
    seconds = time.perf_counter() - began
    params = state.actor_ts.params
    (chosen.out / "agent.msgpack").write_bytes(flax.serialization.to_bytes(params))
    act = jax.jit(lambda obs: ppo.actor.apply(params, obs, method="_action_dist").mean())
    return lambda obs: np.clip(act(obs), -1.0, 1.0), seconds


# each gives what it has learned, and the seconds that it learned for, without what was compiled
ALGORITHMS = {"sb3-ppo": sb3_ppo, "rejax-ppo": rejax_ppo}


def inside(act: Act, env: LearnedVectorEnv, seed: int) -> np.ndarray:
    """Returns of one episode of each environment of the simulator."""
    obs, _ = env.reset(seed=seed)
    total, going = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while going.any():
        obs, reward, terminated, truncated, _ = env.step(act(obs))
        total += going * reward
        going &= ~(terminated | truncated)
    return total


def outside(act: Act, env: Any, episodes: int, seed: int) -> np.ndarray:
    """Returns of episodes of the real task."""
    totals = []
    for i in range(episodes):
        obs, _ = env.reset(seed=seed + i)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(act(obs[None])[0])
            total, over = total + reward, terminated or truncated
        totals.append(total)
    return np.array(totals)


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Result rows: both returns with 95 % intervals over their episodes, and the minutes inside."""
    own = {"task": found["task"], "seed": found["seed"], "x": found["steps"]}
    told = []
    for name in ("inside", "real"):
        value, low, high = interval(np.array(found[name]))
        told.append(
            {"what": f"return_{name}", **own, "value": value, "lo": low, "hi": high}
            | {"unit": "return"}
        )
    minutes = found["seconds"] / 60
    taken = {"value": minutes, "lo": minutes, "hi": minutes, "unit": "minutes"}
    return [*told, {"what": "minutes_inside", **own, **taken}]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="logdir of train.py")
    parser.add_argument("--algorithm", choices=list(ALGORITHMS), default="sb3-ppo")
    parser.add_argument("--steps", type=int, default=500_000, help="agent steps inside")
    parser.add_argument("--envs", type=int, default=64, help="of the simulator, side by side")
    parser.add_argument("--starts", default="first", help="of training: first, anywhere or model")
    parser.add_argument("--episodes", type=int, default=10, help="of the real task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default is <run>/inside-<algorithm>-<seed>")
    parser.add_argument("--rows", type=Path, help="also write result rows to this file")
    chosen = parser.parse_args(arguments)
    for name in ("steps", "envs", "episodes"):
        if getattr(chosen, name) < 1:
            raise ValueError(f"--{name} is {getattr(chosen, name)}; set it to at least 1")
    config = load_config(chosen.run)
    chosen.out = chosen.out or chosen.run / f"inside-{chosen.algorithm}-{chosen.seed}"
    chosen.out.mkdir(parents=True, exist_ok=True)
    act, seconds = ALGORITHMS[chosen.algorithm](chosen)
    simulator = LearnedVectorEnv(chosen.envs, str(chosen.run))  # begins as the real task does
    real = envs.make(config.task, **config.environment)
    found = {
        "algorithm": chosen.algorithm,
        "task": config.task,
        "seed": chosen.seed,
        "steps": chosen.steps,
        "seconds": seconds,
        "inside": inside(act, simulator, chosen.seed).tolist(),
        "real": outside(act, real, chosen.episodes, chosen.seed).tolist(),
    }
    real.close()
    write_json(chosen.out / "returns.json", found)
    if chosen.rows is not None:
        chosen.rows.parent.mkdir(parents=True, exist_ok=True)
        write_json(chosen.rows, rows(found))
    means = {name: float(np.mean(found[name])) for name in ("inside", "real")}
    print(f"return inside {means['inside']:.1f}, in the real task {means['real']:.1f}")
    print(chosen.out / "returns.json")
    return 0


if __name__ == "__main__":
    run_script(main, ModuleNotFoundError)
