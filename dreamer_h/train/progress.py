"""Progress bars."""

import sys
from typing import Any

from tqdm import tqdm

SELDOM = 30.0  # seconds: a log keeps every state of a bar


def progress(*arguments: Any, **settings: Any) -> tqdm:
    """A bar as `tqdm` makes it, that a terminal shows at once and a log hears of seldom."""
    often = 0.1 if sys.stderr.isatty() else SELDOM
    # or else a thread of tqdm's adds a state after ten seconds
    return tqdm(*arguments, mininterval=often, maxinterval=max(10.0, often), **settings)
