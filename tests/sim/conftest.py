"""What the simulation tests share."""

import pytest


@pytest.fixture(scope="session")
def rtl_cache(tmp_path_factory):
    """An empty folder for compiled designs, so that nothing is taken from the user's own cache."""
    return tmp_path_factory.mktemp("rtl-cache")
