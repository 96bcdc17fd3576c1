from dataclasses import replace

import jax
import numpy as np
import pytest
import recorded

from dreamer_h.horizon import models, transport
from dreamer_h.horizon.recorded.windows import cut
from dreamer_h.horizon.scoring.report import report
from dreamer_h.horizon.scoring.score import (
    SAMPLES,
    ask,
    benchmark,
    questions,
    score,
    yardstick_scores,
)
from dreamer_h.horizon.scoring.slow import running_mean
from dreamer_h.horizon.simulator import Context, Forecast
from dreamer_h.horizon.simulators import network, offline
from dreamer_h.horizon.simulators.budget import Budget, falling
from dreamer_h.horizon.simulators.damped import Damped
from dreamer_h.horizon.simulators.latent import LatentSimulator
from dreamer_h.horizon.simulators.yardsticks import YARDSTICKS, Persistence
from dreamer_h.presets import preset, with_levels

NAMES = [*YARDSTICKS, "mlp", "ensemble", "flat", "levels2", "damped"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return benchmark(recorded.driven(tmp_path_factory.mktemp("driven") / "data"), {})


@pytest.fixture(scope="module")
def simulators(bench):
    train, scale = bench.recording.train, bench.scale
    made = {name: kind.fit(train, scale) for name, kind in YARDSTICKS.items()}
    made["mlp"] = network.blank(train, scale, 1, seed=0)
    made["ensemble"] = network.blank(train, scale, 3, seed=0)
    made["flat"] = LatentSimulator(offline.blank(train, (), preset("debug"), seed=0))
    levels = offline.blank(train, (), with_levels(preset("debug"), 2, "4"), seed=0)
    made["levels2"] = LatentSimulator(levels, (8,))
    made["damped"] = Damped.fit(made["flat"], bench.calibration, scale, samples=4)
    return made


def small(windows, count):
    return Context(windows.context_obs[:count], windows.context_action[:count])


@pytest.mark.parametrize("name", NAMES)
def test_every_simulator_fits_the_socket(bench, simulators, name):
    simulator, windows = simulators[name], bench.far
    state = simulator.start(small(windows, len(windows)), seed=0)
    # as `ask` does: what is compiled for one test serves the next
    found = simulator.imagine(state, windows.action, SAMPLES, seed=0)
    samples = {"mlp": 1, "ensemble": 3, "mean": 1, "persistence": 1, "linear": 1}.get(name, SAMPLES)
    assert found.obs.shape == (samples, *windows.action.shape[:2], 3)
    assert found.reward.shape == found.obs.shape[:3]
    assert np.isfinite(found.obs).all()
    again = ask(simulator, {"far": windows})["far"]
    np.testing.assert_array_equal(found.obs, again.obs)
    _, obs, reward = simulator.step(state, windows.action[:, 0], seed=0)
    assert obs.shape == (len(windows), 3) and reward.shape == (len(windows),)


@pytest.mark.parametrize("name", NAMES)
def test_no_simulator_sees_the_future(bench, simulators, name):
    answer = ask(simulators[name], {"far": bench.far}, seed=3)["far"]
    places = []  # in episodes of which everything is another behind the start
    for number, start in zip(bench.far.episode, bench.far.start, strict=True):
        episode, _ = bench.recording.read(int(number))
        obs, reward = episode.obs.copy(), episode.reward.copy()
        obs[start + 1 :] += 100
        reward[start + 1 :] -= 7
        places.append((int(number), replace(episode, obs=obs, reward=reward), int(start)))
    changed = cut(places, bench.far.horizon)
    assert (changed.future_obs != bench.far.future_obs).all()
    again = ask(simulators[name], {"far": changed}, seed=3)["far"]
    np.testing.assert_array_equal(answer.obs, again.obs)


@pytest.mark.parametrize("name", ["mlp", "flat", "levels2", "linear", "nearest"])
def test_a_window_is_forecast_alone_as_among_others(bench, simulators, name):
    simulator, action = simulators[name], bench.far.action
    whole = simulator.imagine(simulator.start(small(bench.far, 4), seed=1), action[:4], 3, seed=1)
    part = simulator.imagine(simulator.start(small(bench.far, 2), seed=1), action[:2], 3, seed=1)
    np.testing.assert_allclose(part.obs, whole.obs[:, :2], rtol=1e-4, atol=1e-4)


class Careless(Persistence):
    """Writes into what it is given, and answers as it is told to."""

    change = staticmethod(lambda found: found)

    def start(self, context, *, seed):
        context.obs[...] = 7.0
        return super().start(context, seed=seed)

    def imagine(self, state, action, samples, *, seed):
        action *= 0.5
        return self.change(super().imagine(state, action, samples, seed=seed))


def careless(bench, change=lambda found: found) -> Careless:
    made = Careless.fit(bench.recording.train, bench.scale)
    object.__setattr__(made, "change", change)
    return made


def test_what_one_simulator_does_to_its_questions_changes_nobody_elses(bench):
    before = bench.far.context_obs.copy(), bench.far.action.copy()
    ask(careless(bench), {"far": bench.far})
    np.testing.assert_array_equal(bench.far.context_obs, before[0])
    np.testing.assert_array_equal(bench.far.action, before[1])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: replace(f, obs=f.obs[0]), "observations of shape"),
        (lambda f: replace(f, obs=f.obs[:, :, :-1]), "observations of shape"),
        (lambda f: replace(f, obs=f.obs[..., :-1]), "observations of shape"),
        (lambda f: replace(f, obs=np.concatenate([f.obs, f.obs], 2)), "observations of shape"),
        (lambda f: replace(f, obs=f.obs[:0]), "observations of shape"),
        (lambda f: replace(f, reward=f.reward[0]), "rewards of shape"),
    ],
)
def test_an_answer_to_something_else_is_refused(bench, change, message):
    with pytest.raises(ValueError, match=message):
        ask(careless(bench, change), {"far": bench.far})


def test_a_step_is_the_first_of_an_imagination(bench, simulators):
    for name in ("linear", "mlp"):
        simulator = simulators[name]
        state = simulator.start(small(bench.far, len(bench.far)), seed=0)
        _, obs, _ = simulator.step(state, bench.far.action[:, 0], seed=0)
        found = simulator.imagine(state, bench.far.action, 1, seed=0)
        np.testing.assert_allclose(obs, found.obs[0, :, 0], rtol=1e-4, atol=1e-5)


def test_a_linear_model_knows_a_linear_system(bench):
    scored = yardstick_scores(bench)
    assert np.median(scored["linear"].far["nrmse"][:, 0]) < 0.02
    assert np.median(scored["persistence"].far["nrmse"][:, 30]) > 0.5
    found = report("linear", scored["linear"], scored, bench)
    control = found["metrics"]["control"]
    assert control[8]["lo"] > 5  # shuffled actions make it several times as wrong
    assert report("mean", scored["mean"], scored, bench)["metrics"]["control"][8]["value"] == 1
    assert found["metrics"]["crps_skill"][1]["lo"] > 0.9
    assert "no samples" in found["trusted"]["calibration"] and found["floor"] is None


def test_networks_learn_what_they_are_shown(bench):
    train, scale = bench.recording.train, bench.scale
    fitted = network.fit(train, scale, Budget(updates=80), members=1, steps=4, seed=0)
    before = network.blank(train, scale, 1, seed=0)
    errors = [
        np.median(score(ask(simulator, questions(bench)), bench).far["nrmse"][:, 7])
        for simulator in (fitted, before)
    ]
    assert errors[0] < 0.25 < errors[1]


def test_a_world_learns_offline_and_comes_back_from_its_folder(bench, tmp_path):
    config = preset("debug")
    models.fit(
        "flat", bench.recording, Budget(updates=3), Budget(updates=3), config, tmp_path, seed=0
    )
    card, simulator = models.load(tmp_path, bench.recording, bench.scale)
    assert card.model == "flat" and card.data == bench.recording.hash
    blank = offline.blank(bench.recording.train, (), config, seed=0)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), simulator.world, blank)
    assert any(jax.tree.leaves(moved))
    ask(simulator, {"far": bench.far})
    other = replace(bench.recording, manifest={**bench.recording.manifest, "task": "other"})
    with pytest.raises(ValueError, match="has task toy, the recording in .* has other"):
        models.load(tmp_path, other, bench.scale)


def test_a_world_comes_back_with_the_angles_that_it_was_fitted_with(bench, tmp_path):
    layout = [{"name": "turn", "start": 0, "stop": 3, "kind": "angle"}]
    manifest = {**bench.recording.manifest, "layout": layout}
    turning = replace(bench.recording, manifest=manifest)
    few, config = Budget(updates=1), preset("debug")
    fit = lambda recording: models.fit("flat", recording, few, few, config, tmp_path, seed=0)
    read = lambda: models.load(tmp_path, turning, bench.scale)[1].world.angles
    fit(turning)
    assert read() == (0, 1, 2)
    fit(bench.recording)  # of the same data, which say nothing of angles: another fit
    assert read() == ()


def test_the_same_fit_again_is_not_made_again(bench, tmp_path, monkeypatch):
    budget, config = Budget(updates=2), preset("debug")
    fit = lambda seed: models.fit(
        "flat", bench.recording, budget, budget, config, tmp_path, seed=seed
    )
    fit(0)
    monkeypatch.setattr(offline, "fit", lambda *inputs, seed: pytest.fail("trained again"))
    fit(0)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        fit(1)


def test_a_yardstick_is_kept_as_a_card_and_takes_no_settings(bench, tmp_path):
    models.fit("linear", bench.recording, None, (), None, tmp_path, seed=0)
    card, simulator = models.load(tmp_path, bench.recording, bench.scale)
    assert card.label == "linear" and not (tmp_path / "weights.eqx").exists()
    fresh = models.yardstick("linear", bench.recording, bench.scale)
    np.testing.assert_array_equal(simulator.weight, fresh.weight)
    with pytest.raises(ValueError, match="of recording abc"):
        models.load(tmp_path, unlike(bench.recording), bench.scale)
    with pytest.raises(ValueError, match="linear has no config"):
        models.fit("linear", bench.recording, None, (), preset("debug"), tmp_path, seed=0)


def unlike(recording, **changes):
    """The same files under another hash."""
    return replace(recording, manifest={**recording.manifest, "hash": "xyz", **changes})


def test_a_network_keeps_its_own_scale_and_meets_no_episode_again(bench, tmp_path):
    budget = Budget(updates=1)
    models.fit("mlp", bench.recording, budget, budget, None, tmp_path, seed=1)
    wider = replace(bench.scale, std=2 * bench.scale.std)
    card, simulator = models.load(tmp_path, unlike(bench.recording), wider)
    assert card.label == "mlp-1"
    for name, value in vars(bench.scale).items():
        np.testing.assert_array_equal(getattr(simulator.scale, name), value)
    again = models.load(tmp_path, bench.recording, bench.scale)[1]
    asked = {"far": bench.far}
    np.testing.assert_array_equal(ask(simulator, asked)["far"].obs, ask(again, asked)["far"].obs)
    for other in ("test", "calibration"):  # of which the radius is
        splits = {"train": other, other: "train"}
        turned = [
            {**e, "split": splits.get(e["split"], e["split"])}
            for e in bench.recording.manifest["episodes"]
        ]
        with pytest.raises(ValueError, match="fitted to 10 of the 20 calibration and test episode"):
            models.load(tmp_path, unlike(bench.recording, episodes=turned), bench.scale)
    with pytest.raises(ValueError, match="has action_repeat 2, the recording in .* has 4"):
        models.load(tmp_path, unlike(bench.recording, action_repeat=4), bench.scale)


def test_damping_never_amplifies_and_mere_noise_becomes_the_mean(bench):
    class Wrong:
        def start(self, context, *, seed):
            return len(context.obs)

        def imagine(self, state, action, samples, *, seed):
            rng = np.random.default_rng(seed + 1)
            return Forecast(rng.normal(size=(samples, *action.shape[:2], 3)), None)

        def step(self, state, action, *, seed):
            raise AssertionError("damping needs no step")

    damped = Damped.fit(Wrong(), bench.calibration, bench.scale, samples=1)
    assert damped.factor.max() <= 1 and damped.factor.mean() < 0.3


def test_questions_and_answers_travel_in_files(bench, tmp_path):
    parts = questions(bench)
    transport.export(tmp_path / "queries.npz", parts, 0.05)
    with np.load(tmp_path / "queries.npz") as file:
        asked = {name: file[name] for name in file.files}
    assert "future_obs" not in asked and not any("future" in name for name in asked)
    count, longest = asked["action"].shape[:2]
    assert asked["context_obs"].shape == (count, 17, 3) and asked["context_action"].shape[1] == 16
    rng = np.random.default_rng(0)
    answer = rng.normal(size=(2, count, longest, 3)).astype(np.float32)
    order = rng.permutation(count)
    np.savez(tmp_path / "predictions.npz", window_id=order, obs=answer[:, order])
    found = transport.read(tmp_path / "predictions.npz", parts)
    near = len(parts["far"])
    np.testing.assert_array_equal(
        found["near"].obs, answer[:, near : near + len(parts["near"]), : parts["near"].horizon]
    )
    assert found["far"].reward is None


@pytest.mark.parametrize("change, message", [
    ({"window_id": None}, "has no window_id"),
    ({"window_id": np.zeros(9, int)}, "must hold each of 0"),
    ({"obs": np.zeros((2, 3, 4))}, "needed is"),
    ({"obs": "ints"}, "needed are floats"),
    ({"reward": np.zeros((1, 2, 3))}, "reward has shape"),
])  # fmt: skip
def test_wrong_answers_are_named(bench, tmp_path, change, message):
    parts = questions(bench)
    count = sum(len(windows) for windows in parts.values())
    good = {"window_id": np.arange(count), "obs": np.zeros((1, count, bench.far.horizon, 3))}
    if isinstance(change.get("obs"), str):
        change = {"obs": good["obs"].astype(int)}
    arrays = {k: v for k, v in {**good, **change}.items() if v is not None}
    np.savez(tmp_path / "predictions.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        transport.read(tmp_path / "predictions.npz", parts)


def test_values_that_are_not_finite_are_named_where_they_are_read(bench, tmp_path):
    parts = questions(bench)
    count, path = sum(map(len, parts.values())), tmp_path / "predictions.npz"
    obs, near = np.zeros((2, count, bench.far.horizon, 3)), len(parts["far"])
    order = np.arange(count)[::-1]  # of the file
    obs[:, near, parts["near"].horizon :] = np.nan
    np.savez(path, window_id=order, obs=obs[:, order])
    transport.read(path, parts)  # behind a window's length nothing is read
    obs[1, near + 3, 5, 2] = np.inf
    obs[0, near + 3, 7:9] = np.nan
    np.savez(path, window_id=order, obs=obs[:, order])
    with pytest.raises(ValueError, match=f"7 values of obs .* window_id {near + 3} at step 5"):
        transport.read(path, parts)


def test_a_running_mean_is_over_the_last_steps():
    values = np.arange(20.0)
    found = running_mean(values)
    assert found[0] == 0 and found[3] == 1.5 and found[19] == np.mean(values[12:])


@pytest.mark.parametrize("wrong", [{}, {"updates": 3, "minutes": 1.0}, {"updates": 0}])
def test_a_budget_is_one_of_two(wrong):
    with pytest.raises(ValueError, match="budget"):
        Budget(**wrong)


def test_a_budget_in_updates_is_spent_exactly():
    assert list(Budget(updates=4)) == [0.0, 0.25, 0.5, 0.75]
    assert 0 < len(list(Budget(minutes=1e-5)))


def test_the_learning_rate_falls_to_nothing_with_the_budget():
    np.testing.assert_allclose(
        [falling(share) for share in (0.0, 0.5, 1.0)], [1, 0.5, 0], atol=1e-12
    )
    assert (np.diff([falling(share) for share in Budget(updates=20)]) < 0).all()
