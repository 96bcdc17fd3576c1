import os
import platform
import subprocess
import sys

import pytest

SHOW = """
import os
from dreamer_h.train.runtime import with_huge_pages
print("begun", flush=True)
with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"))
"""


GLIBC = platform.libc_ver()[0] == "glibc"  # the setting is glibc's; elsewhere nothing happens


@pytest.mark.parametrize("before, starts, after", [
    (None, 2, "glibc.malloc.hugetlb=1") if GLIBC else (None, 1, "None"),
    ("glibc.malloc.check=1", 1, "glibc.malloc.check=1"),  # the user's own stays
])  # fmt: skip
def test_a_script_starts_anew_once_with_huge_pages(before, starts, after):
    env = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    env |= {} if before is None else {"GLIBC_TUNABLES": before}
    command = [sys.executable, "-c", SHOW]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["begun"] * starts + [after]
