import json


def test_every_way_is_timed_beside_the_real_one(cli, finished, tmp_path, capsys):
    sizes = ("--envs", 1, 2, "--seconds", 0.01, "--out", tmp_path)
    assert cli("benchmark_environments.py", "--run", finished, *sizes) == 0
    rates = json.loads((tmp_path / "speed.json").read_text())["rates"]
    assert [name for name in rates if name.startswith("learned")] == [
        "learned, 1", "learned, 2", "learned, pure jax, 1", "learned, pure jax, 2",
    ]  # fmt: skip
    assert all(0 < rate["min"] <= rate["median"] <= rate["max"] for rate in rates.values())
    assert "| dmc, one |" in capsys.readouterr().out
    assert "--envs is [0]" in str(
        cli("benchmark_environments.py", "--run", finished, "--envs", 0, "--out", tmp_path)
    )
