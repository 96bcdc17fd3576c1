"""A run to play in: its simulator knows nothing, and knows it fast."""

import pytest


@pytest.fixture(scope="session")
def run(finished) -> str:
    return str(finished)
