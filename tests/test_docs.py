"""What the pages say of the numbers is what the numbers are."""

import re
from pathlib import Path

from dreamer_h.fields import flatten
from dreamer_h.presets import PRESETS

ROOT = Path(__file__).parents[1]


def test_the_table_of_the_cpu_preset_is_complete():
    flat, cpu = flatten(PRESETS["size1m"]), flatten(PRESETS["cpu"])
    wanted = [f"| `{k}` | {flat[k]} | {cpu[k]} |" for k in flat if flat[k] != cpu[k]]
    page = (ROOT / "docs" / "equations.md").read_text()
    assert page.split("| field | size1m | cpu |\n|---|---|---|\n")[1].strip().splitlines() == wanted


def test_every_page_that_is_linked_is_there():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/**/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links {link}"
