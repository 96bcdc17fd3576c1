import dataclasses
import json
import re

import pytest

from dreamer_h.config import Config, ReplayConfig
from dreamer_h.fields import flatten, from_flat, with_field
from dreamer_h.presets import PRESETS, RECIPES, check_recipe, preset, with_settings


@pytest.mark.parametrize(
    "path, value, advice",
    [
        ("behaviour.pessimism", 0.1, "there are 0; set --world.ensemble to 5"),
        ("behaviour.trust_horizon", 0.5, "there are 0; set --world.ensemble to 5"),
        ("explore_steps", 100, "there are 0; set --world.ensemble to 5"),
        ("seed", -1, "--seed is -1; it cannot be negative"),
        ("optimizer.learning_rate", -1e-4, "--optimizer.learning_rate is -0.0001; it cannot be"),
        ("replay.ratio", -1.0, "--replay.ratio is -1.0; it cannot be negative"),
        *[
            (path, 0, f"--{path} is 0; set it to at least 1")
            for path in (
                "size", "action_repeat", "steps", "envs", "eval_episodes", "checkpoint_every",
                "log_every",
                "checkpoint_keep", "failures", "replay.capacity", "replay.batch", "replay.length",
                "replay.tick", "world.deter", "world.hidden", "world.units", "world.groups",
                "world.blocks", "behaviour.units", "behaviour.imagine_length",
                "behaviour.manager_jumps",
            )
        ],
        ("world.deter", 510, "--world.deter 510 is not a multiple of --world.blocks 8; "
                             "set --world.deter to 504 or 512"),
        ("world.deter", 5, "set --world.deter to 8"),
        ("world.classes", 1, "--world.classes is 1; a categorical needs at least 2"),
        ("world.bins", 254, "--world.bins is 254; set it to an odd number from 3 on, like 255"),
        ("behaviour.bins", 1, "--behaviour.bins is 1; set it to an odd number from 3 on"),
        ("replay.tick", 7, "--replay.length 64 is not a multiple of --replay.tick 7; "
                           "set --replay.length to 63 or 70"),
        ("replay.tick", 100, "set --replay.length to 100"),
        ("behaviour.own_goals", 0.8, "--behaviour.hindsight_goals are 1.1 together; they are"),
        ("behaviour.own_goals", 2.0, "--behaviour.own_goals is 2.0; it is a share, at most 1"),
        ("behaviour.horizon", 1.0, "--behaviour.horizon is 1.0; it must be above 1"),
    ],
)  # fmt: skip
def test_a_number_that_cannot_work_is_refused_with_one_that_would(path, value, advice):
    with pytest.raises(ValueError, match=re.escape(advice)):
        with_field(Config(), path, value)


@pytest.mark.parametrize("size, advice", [(60, "set it to 48 or 64"), (8, "set it to 16")])
def test_the_size_matters_for_pixels_only(size, advice):
    wanted = re.escape(f"--size {size} is not a multiple of 16; {advice}")
    with pytest.raises(ValueError, match=wanted):
        Config(obs="pixels", size=size)
    assert Config(obs="state", size=size).size == size


@pytest.mark.parametrize(
    "settings, advice",
    [
        (["explore_steps=100"], "begins after 2000 env steps and ends after 100000"),
        (["explore_steps=200000"], "set it between these"),
        (["behaviour.trust_horizon=1", "eval_every=100000"], "below --steps 100000"),
        (["behaviour.trust_horizon=1", "eval_every=0"], "above 0 and below"),
        (["levels=2", "jump.own_losses=False", "replay.length=32"], "level 1's guesses untaught"),
    ],
)
def test_what_would_change_nothing_is_refused(settings, advice):
    common = ["steps=100000", "prefill=1000", "action_repeat=2", "world.ensemble=5"]
    with pytest.raises(ValueError, match=advice):
        with_settings(preset("cpu"), common + settings)


@pytest.mark.parametrize("length, wanted", [(16, 128), (100, 128), (130, 192), (128, None)])
def test_windows_that_jumps_do_not_fit_are_answered_with_some_that_all_do(length, wanted):
    of = lambda length: Config(levels=3, strides="8,8", replay=ReplayConfig(length=length))
    if wanted is None:
        assert of(length).jumps == (8, 64)
        return
    with pytest.raises(ValueError, match=rf"set (it|that) to .*{wanted}"):
        of(length)
    of(wanted)


def test_zero_is_allowed_where_it_means_never():
    assert Config(eval_every=0, prefill=0).eval_every == 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_flattening_json_and_back(name):
    config = preset(name)
    flat = flatten(config)
    assert flat["replay.batch"] == config.replay.batch and "replay" not in flat
    assert from_flat(json.loads(json.dumps(flat))) == config


def test_a_config_of_another_version_is_refused_with_the_difference():
    flat = flatten(Config())
    flat["world.colour"] = flat.pop("world.deter")
    with pytest.raises(ValueError, match=r"unknown \['world.colour'\], missing \['world.deter'\]"):
        from_flat(flat)


def test_a_saved_config_is_checked_again():
    with pytest.raises(ValueError, match="odd number"):
        from_flat(flatten(Config()) | {"world.bins": 256})


def test_with_field_replaces_one_field_and_leaves_the_original_alone():
    config = Config()
    other = with_field(config, "world.unimix", 0.5)
    changed = {k for k, v in flatten(other).items() if v != flatten(config)[k]}
    assert changed == {"world.unimix"} and config == Config()


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["size1m", "cpu", "debug"])
def test_a_preset_with_a_recipe_keeps_the_recipe(recipe, name):
    config = preset(name, recipe)
    check_recipe(config, recipe)
    fixed = RECIPES[recipe]
    assert {k: v for k, v in flatten(config).items() if k in fixed} == fixed
    assert config.world == preset(name, obs=fixed["obs"]).world


def test_the_small_preset_carries_states_and_leaves_pixels_alone():
    states, pixels = preset("cpu").world, preset("cpu", obs="pixels")
    assert states.residual and states.learned_scale and states.selffed
    world = pixels.world
    assert pixels.obs == "pixels"
    assert not (world.residual or world.learned_scale or world.selffed)


OTHER = {"obs": {"state": "pixels", "pixels": "state"}, "size": 32, "action_repeat": 1,
         "replay.ratio": 1024.0}  # fmt: skip


@pytest.mark.parametrize("recipe, path", [(r, path) for r in RECIPES for path in RECIPES[r]])
def test_one_flag_cannot_break_a_recipe(recipe, path):
    fixed = RECIPES[recipe][path]
    value = OTHER[path][fixed] if path == "obs" else OTHER[path]
    config = with_field(preset("size1m", recipe), path, value)
    wanted = re.escape(f"recipe {recipe} needs --{path} {fixed}, found --{path} {value}")
    with pytest.raises(ValueError, match=wanted):
        check_recipe(config, recipe)


def test_what_a_recipe_does_not_fix_stays_free():
    check_recipe(with_field(preset("size12m", "dmc_proprio"), "seed", 7), "dmc_proprio")


@pytest.mark.parametrize(
    "name, recipe, advice",
    [
        ("size1", None, "unknown preset 'size1'; did you mean size1m"),
        ("dbug", None, "unknown preset 'dbug'; did you mean debug"),
        ("size1m", "dmc_propio", "unknown recipe 'dmc_propio'; did you mean dmc_proprio"),
        ("@", None, "did you mean size1m, size12m"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, recipe, advice):
    with pytest.raises(ValueError, match=re.escape(advice)):
        preset(name, recipe)


def test_updates_follow_from_the_replay_ratio():
    config = with_field(Config(action_repeat=2), "replay.ratio", 512.0)
    # 16 x 64 replayed steps an update; two env steps an agent step
    assert config.updates_per_agent_step == 0.5
    assert config.updates_per_env_step == 0.25
    longer = with_field(config, "replay.length", 128)
    assert longer.updates_per_agent_step * 16 * 128 == 512.0


# Numbers that pass the check but cannot run.
@pytest.mark.parametrize(
    "path, value",
    [
        ("behaviour.layers", 0),
        ("world.unimix", 1.5),
        ("behaviour.lambda_", 1.5),
        ("optimizer.momentum", 1.0),
        ("optimizer.decay", 1.0),
        ("optimizer.clip", 0.0),
        ("optimizer.eps", 0.0),
        ("optimizer.learning_rate", float("nan")),
    ],
)
def test_a_number_outside_its_mathematical_range_is_refused(path, value):
    with pytest.raises(ValueError, match=re.escape(f"--{path}")):
        with_field(Config(), path, value)


def test_a_pixel_decoder_that_its_blocks_do_not_divide_is_refused():
    config = with_field(with_field(Config(obs="pixels"), "world.blocks", 4), "world.depth", 2)
    assert config.world.depth * 4 % config.world.blocks == 0
    with pytest.raises(ValueError, match=re.escape("--world.depth")):
        with_field(with_field(config, "world.blocks", 8), "world.depth", 3)


def test_settings_reach_the_config():
    config = with_settings(
        preset("debug"), ["replay.batch=8", "behaviour.gradient=dynamics", "replay.ratio=16"]
    )
    assert (config.replay.batch, config.replay.ratio) == (8, 16)
    assert config.behaviour.gradient == "dynamics"
    for no in ("False", "false"):  # as flags and as JSON have it
        assert with_settings(preset("debug"), [f"jump.own_losses={no}"]).jump.own_losses is False


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("replay.bach=8", "replay.batch"),
        ("replay.batch", "path=value"),
        ("replay.batch=many", "is 4"),
        ("replay.batch=0", "at least 1"),
    ],
)
def test_a_wrong_setting_is_explained(setting, message):
    with pytest.raises(ValueError, match=message):
        with_settings(preset("debug"), [setting])
