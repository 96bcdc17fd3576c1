"""A run to play in: its simulator knows nothing, and knows it fast."""

import pytest


@pytest.fixture(scope="session")
def run(finished) -> str:
    return str(finished)


@pytest.fixture(scope="session")
def jumping(added) -> str:
    """A run with a level that jumps 4 agent steps, and that knows nothing either."""
    return str(added)
