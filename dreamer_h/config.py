"""Every number of a run, with its unit. Frozen, checked when it is made, saved as `config.json`.

The defaults are DreamerV3's (Hafner et al. 2025; public code of 2026).
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from dreamer_h.limits import check


@dataclass(frozen=True)
class ReplayConfig:
    """What is kept of the real environment, and how windows are drawn from it."""

    capacity: int = 500_000
    """Agent steps kept; whole old episodes go first. The memory bound is printed at the start."""
    batch: int = 16
    """Windows a batch."""
    length: int = 64
    """Agent steps T of a window (T + 1 observations); a multiple of the tick."""
    tick: int = 1
    """Windows start at multiples of this many agent steps from the episode's start."""
    ratio: float = 512.0
    """Replayed agent steps per collected agent step. Updates per agent step = ratio / (batch x
    length), so another batch or window keeps the ratio."""


@dataclass(frozen=True)
class WorldConfig:
    """Sizes and losses of the learned simulator."""

    deter: int = 512
    """Width of the deterministic memory."""
    hidden: int = 64
    """Width inside the recurrent cell, the prior and the posterior."""
    units: int = 64
    """Width of encoder, decoder and heads."""
    groups: int = 32
    """Categoricals of the code."""
    classes: int = 4
    """Classes of each categorical."""
    blocks: int = 8
    """Blocks of the recurrent cell; divides `deter`."""
    depth: int = 4
    """Channels of the convolutions for pixels, in each stage a multiple of it."""
    bins: int = 255
    """Bins of the two-hot reward head; odd."""
    residual: bool = False
    """State observations: the simulator carries the observation beside the code and predicts its
    change, so that the code need not hold it."""
    learned_scale: bool = False
    """State observations: the reconstruction has a learned deviation for each entry instead of
    one."""
    selffed: int = 0
    """Agent steps of the simulator's own rollouts that its decoder and reward are held to, from
    every so manieth posterior of a window; 0 is none."""
    selffed_paths: int = 1
    """Own rollouts from each of these posteriors; several are judged together, by their CRPS."""
    ensemble: int = 0
    """Guesses of its next step at each level, whose differences say what it does not know; 0 is
    none."""
    unimix: float = 0.01
    """Share of the uniform distribution in every categorical."""
    free_nats: float = 1.0
    """Nats a step below which the KL terms teach nothing."""
    recon_scale: float = 1.0
    """Weight of the reconstruction loss."""
    selffed_scale: float = 1.0
    """Weight of the loss along own rollouts, whose reconstruction is weighted as the other one."""
    reward_scale: float = 1.0
    """Weight of the reward loss."""
    continue_scale: float = 1.0
    """Weight of the continue loss."""
    dyn_scale: float = 1.0
    """Weight of the KL that moves the prior."""
    rep_scale: float = 0.1
    """Weight of the KL that moves the posterior."""


@dataclass(frozen=True)
class JumpConfig:
    """Sizes and losses of the levels above the lowest, each of which jumps."""

    deter: int = 128
    """Width of a level's deterministic memory."""
    hidden: int = 64
    """Width inside its recurrent cell, its prior and its posterior."""
    units: int = 64
    """Width of its heads."""
    groups: int = 8
    """Categoricals of its own code; 0 is none: the memory alone tells the next anchor."""
    classes: int = 4
    """Classes of each categorical."""
    chunk: Literal["anchored", "actions", "flat"] = "anchored"
    """How a jump reads its actions: a recurrence that starts from the anchor; one over the actions
    alone, side by side for all jumps; or all of them at once."""
    chunk_units: int = 64
    """Width of what a jump knows of its actions."""
    macro: float = 0.5
    """Share of the jumps in training that know their macro code only."""
    every: int = 2
    """Updates of the lowest level for one of the levels above, whose own losses cost as much."""
    selffed: int = 4
    """Jumps in a row that are taught on the level's own predictions; 0 is none."""
    selffed_warmup: int = 1000
    """Updates until the last of them counts fully."""
    free_nats: float = 1.0
    """Nats a jump below which the KL terms teach nothing."""
    dyn_scale: float = 1.0
    """Weight of the KL that moves the prior."""
    rep_scale: float = 0.1
    """Weight of the KL that moves the posterior."""
    selffed_scale: float = 1.0
    """Weight of the losses along own jumps."""
    reanchor: float = 0.5
    """Share of the own rollouts of the level below that start from predicted anchors."""
    own_losses: bool = True
    """Whether a level learns from losses of its own; else from the fill alone, through what its own
    jumps begin there."""
    distil_scale: float = 1.0
    """Weight of what the level below teaches about actions that were not taken there."""
    distil_warmup: int = 1000
    """Updates before it begins."""
    rate: float = 1.0
    """Step size of the levels above the lowest, as a share of everything else's."""


@dataclass(frozen=True)
class BehaviourConfig:
    """The actor-critic that is trained inside the simulator."""

    units: int = 64
    """Width of actor and critic."""
    layers: int = 3
    """Hidden layers of actor and critic."""
    bins: int = 255
    """Bins of the two-hot critic; odd."""
    imagine_length: int = 15
    """Imagined agent steps H of a gradient step."""
    paths: int = 0
    """Imagined paths, which go on where they ended in the gradient step before; 0 is one from every
    replayed state, begun anew each time."""
    path_length: int = 500
    """Agent steps, in the mean, until such a path begins anew at a replayed state."""
    path_longest: int = 0
    """Paths are longer where the simulator is: as long as it was accurate at the last evaluation
    (of states, from 5 `eval_episodes` on: within half a deviation with 90 %), up to this. 0 is
    never."""
    gradient_steps: int = 1
    """Gradient steps of the behaviour for one of the simulator."""
    horizon: float = 333.0
    """Agent steps; the discount 1 - 1/horizon lives in the continue head."""
    lambda_: float = 0.95
    """Mixing of the lambda-return."""
    gradient: Literal["reinforce", "dynamics"] = "reinforce"
    """Policy gradient: score function, or back through the simulator's dynamics."""
    entropy: float = 3e-4
    """Weight of the policy's entropy (nats), in units of the normalised return; at first, if it is
    tuned."""
    entropy_rate: float = 0.0
    """Rate at which the weight's logarithm is tuned, per gradient step and nat; 0 leaves it."""
    entropy_target: float = 0.0
    """Nats a dimension of the action that a tuned weight holds; 0 is a deviation of 0.24."""
    actor_rate: float = 1.0
    """Step size of the actor, as a share of the simulator's."""
    critic_rate: float = 1.0
    """Step size of the critic, as a share of the simulator's."""
    slow_rate: float = 0.02
    """Rate of the slow critic's moving average, per gradient step."""
    slow_scale: float = 1.0
    """Weight of the critic's pull towards the slow critic."""
    replay_value_scale: float = 0.3
    """Weight of the value loss on replayed rewards, of the flat critic or the manager's; the flat
    one's gradient reaches the simulator. 0 is none: critics learn from imagination alone."""
    manager_jumps: int = 16
    """Jumps that a manager imagines from every anchor."""
    reliant: bool = True
    """Whether a manager counts on where a segment leads only as often as the worker gets there, and
    else on what the place is worth where it began."""
    attained: float = 0.3
    """Least distance at which a subgoal counts as reached: in deviations of the observation, or,
    for pixels, as a share of the code. It is farther where level 1's own subgoals are farther off
    in one of ten replayed segments."""
    prior_nats: float = 4.0
    """Nats that a manager's choices may be away from what replayed segments did."""
    prior_weight: float = 0.01
    """Weight of these nats, in units of the normalised return; at first, if it is tuned. 0 is no
    prior."""
    prior_rate: float = 1e-3
    """Rate at which the weight's logarithm is tuned, per gradient step and nat; 0 leaves it."""
    goal_scale: float = 0.1
    """Weight of a worker's progress to its subgoal, in units of the return's spread; 0 is an actor
    that sees subgoals and is not asked to reach them."""
    own_goals: float = 0.5
    """Share of the replayed segments from whose start the worker practises the manager's subgoals;
    elsewhere along a path (`paths`) it practises the manager's alone."""
    hindsight_goals: float = 0.3
    """Share from which it practises those where the segment really led; the rest are any."""
    worker_waypoints: int = 96
    """Waypoints of the manager's imagination from which the worker learns, beside real anchors; at
    most all there are."""
    pessimism: float = 0.0
    """Reward that a nat of the simulator's doubt costs in imagination."""
    trust_horizon: float = 0.0
    """Imagined paths end, and bootstrap, where 90 % of observations are not within so many
    deviations any more, as measured at each evaluation; 0 lets them go on."""


@dataclass(frozen=True)
class OptimizerConfig:
    """LaProp with adaptive clipping, one for everything that is trained."""

    learning_rate: float = 4e-5
    """Step size after the warm-up."""
    warmup: int = 1000
    """Updates of linear increase."""
    clip: float = 0.3
    """Largest gradient norm, as a share of the tensor's norm."""
    decay: float = 0.999
    """Decay of the average square."""
    momentum: float = 0.9
    """Decay of the average step."""
    eps: float = 1e-20
    """Added to the root mean square."""


@dataclass(frozen=True)
class Config:
    """One run: a task, a budget, and how to learn from it."""

    task: str = "cartpole-swingup"
    """dm_control task `domain-task`, or the id of a registered Gymnasium environment."""
    obs: Literal["state", "pixels"] = "state"
    """What the agent sees."""
    size: int = 64
    """Side of the pixel observations; a multiple of 16."""
    camera: int | None = None
    """Camera of the pixel observations, -1 the free one; none is the environment's own choice."""
    action_repeat: int = 2
    """Env steps per agent step."""
    steps: int = 500_000
    """Budget in env steps."""
    envs: int = 16
    """Environments that collect side by side."""
    prefill: int = 2_000
    """Agent steps of random actions before learning starts."""
    correlation: float = 0.0
    """Correlation of a collected action's noise with that of the agent step before."""
    seed: int = 0
    """Of everything random in the run."""
    levels: int = 1
    """Levels of the simulator; those above the lowest jump."""
    strides: str = "8,8"
    """Steps of the level below that a jump of level 1, 2, … covers; what is not needed is left."""
    average: float = 0.0
    """Decay per update of the agent's moving average, which acts and in whose world policies are
    trained; 0 is none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the networks' arithmetic; parameters, losses and returns stay float32. bfloat16 is for
    GPUs: it is slower than float32 on CPUs."""
    eval_every: int = 10_000
    """Env steps between evaluations, which also say how long imagined paths last and what of doubt
    is usual; 0 evaluates only at the end."""
    eval_episodes: int = 10
    """Episodes of each evaluation, for the mode and for the sampled policy each."""
    explore_steps: int = 0
    """Env steps at first in which policies seek what the simulator does not know, and nothing
    else."""
    checkpoint_every: int = 10_000
    """Env steps between checkpoints."""
    checkpoint_keep: int = 3
    """Newest checkpoints kept, beside the best one."""
    log_every: int = 1_000
    """Env steps between log records."""
    video: bool = True
    """Record a video at the end, where rendering is available; with levels, also a film of the
    subgoals at each evaluation."""
    failures: int = 10
    """Episodes in a row lost to a failing environment, or updates in a row skipped for a value that
    is not finite, after which the run saves and stops."""
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    world: WorldConfig = field(default_factory=WorldConfig)
    jump: JumpConfig = field(default_factory=JumpConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self):
        check(self)

    @property
    def jumps(self) -> tuple[int, ...]:
        """Agent steps of a jump of each level above the lowest."""
        return self.strides_of(self.levels)

    def strides_of(self, levels: int) -> tuple[int, ...]:
        """Agent steps of a jump of each upper level, if there were so many levels."""
        ratios = [int(ratio) for ratio in self.strides.split(",")]
        return tuple(math.prod(ratios[: i + 1]) for i in range(levels - 1))

    @property
    def updates_per_agent_step(self) -> float:
        return self.replay.ratio / (self.replay.batch * self.replay.length)

    def updates_due(self, agent_steps: int) -> int:
        """Updates that so many agent steps of learning are worth."""
        return int(max(0, agent_steps) * self.updates_per_agent_step)

    @property
    def updates_per_env_step(self) -> float:
        return self.updates_per_agent_step / self.action_repeat

    @property
    def environment(self) -> dict[str, Any]:
        """What `envs.make` needs to know beside the task."""
        names = ("obs", "action_repeat", "size", "camera")
        return {name: getattr(self, name) for name in names}
