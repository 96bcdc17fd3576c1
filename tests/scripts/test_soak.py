import json

import pytest


@pytest.mark.parametrize("count", [1, 3])
def test_it_counts_what_is_odd_and_reads_memory(cli, finished, tmp_path, capsys, count):
    sizes = ("--envs", count, "--steps", 780, "--out", tmp_path)
    cli("soak.py", "--run", finished, *sizes)  # so short a run says nothing of memory
    found = json.loads((tmp_path / f"soak-{count}.json").read_text())
    assert found["steps"] == 780 and found["episodes"] == 780 // 250 // count * count
    assert found["not_finite"] == found["cut_as_invalid"] == 0 and len(found["memory"]) == 10
    assert "0 values were not finite" in capsys.readouterr().out
    assert "too few" in str(
        cli("soak.py", "--run", finished, "--envs", 4, "--steps", 20, "--out", tmp_path)
    )
