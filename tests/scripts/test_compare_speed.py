import json


def test_configs_are_timed_in_turns(cli, tmp_path, capsys):
    small = ("--preset", "debug", "--obs", 3, "--action", 2, "--rounds", 2)
    two = "levels=2 strides=4"
    against = ("--against", "world.ensemble=2", two, "--out", tmp_path)
    assert cli("compare_speed.py", *small, *against) == 0
    found = json.loads((tmp_path / "speed.json").read_text())["found"]
    assert set(found) == {"update", "simulated step"}
    for one in found.values():
        assert list(one) == ["debug", "world.ensemble=2", two]
        assert one["debug"]["ratio"] == one["debug"]["ratio_hi"] == 1.0
        assert all(times["seconds"] > 0 for times in one.values())
        assert all(times["ratio_lo"] <= times["ratio_hi"] for times in one.values())
    assert "| world.ensemble=2 | update |" in (tmp_path / "speed.md").read_text()


def test_what_cannot_be_timed_is_said(cli, tmp_path):
    wrong = ("compare_speed.py", "--out", tmp_path, "--against")
    assert "world.nothing" in str(cli(*wrong, "world.nothing=2"))
    assert "must be at least 1" in str(cli(*wrong, "levels=2", "--rounds", 0))
