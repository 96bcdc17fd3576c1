from dreamer_h.horizon.scoring.scored_files import rows

ONE = {"1": {"value": 0.5, "lo": 0.4, "hi": 0.6, "n": 7}}
CURVES = {"nrmse_median": ONE, "nrmse_rms": ONE, "crps": ONE}
REPORT = {
    "task": "walker-walk",
    "samples": 19,
    "metrics": {**CURVES, "covered": ONE, "slow/speed": ONE},
    "trusted": {"0.5": {"agent_steps": 12, "lo": 9.0, "hi": 14.5}},
    "yardsticks": {"mean": CURVES, "linear": CURVES},
    "floor": {
        "float32": {"1": 1e-6},
        "oracle_median": {"1": 0.5},
        "oracle_rms": {"1": 0.6},
        "compounding": {"1": {"value": 1.0, "lo": 0.9, "hi": 1.1}},
        "saturation": 64,
        "efficiency": {"0.5": 0.8},
        "lyapunov": {"q25": 1.0, "median": 2.0, "q75": float("nan")},
    },
}


def test_the_rows_hold_model_yardsticks_and_floor_under_their_own_variants():
    found = {(r["what"], r.get("variant"), r["seed"], r["x"]): r for r in rows(REPORT, 3)}
    assert len(found) == len(rows(REPORT, 3))  # none hides another
    own = {what for what, variant, seed, _ in found if variant is None and seed == 3}
    assert own == {"nrmse_median", "nrmse_rms", "crps", "coverage90", "slow_error/speed",
                   "trusted_horizon", "compounding_ratio", "oracle_median", "oracle_rms",
                   "efficiency", "saturation"}  # fmt: skip
    for name in ("mean", "linear"):
        assert found["crps", name, None, 1]["value"] == 0.5
    assert found["nrmse_median", "float32", None, 1]["value"] == 1e-6
    lyapunov = found["lyapunov", "float32", None, None]
    assert (lyapunov["lo"], lyapunov["value"], lyapunov["hi"]) == (1.0, 2.0, None)
    assert found["compounding_ratio", None, 3, 1]["unit"] == "ratio"
    trusted = found["trusted_horizon", None, 3, None]
    assert (trusted["lo"], trusted["value"], trusted["hi"]) == (9.0, 12, 14.5)


def test_without_a_floor_or_nineteen_samples_their_rows_are_left_out():
    what = {row["what"] for row in rows(REPORT | {"floor": None, "samples": 1}, None)}
    assert not what & {"coverage90", "lyapunov", "saturation", "oracle_median"}
