"""What the simulation tests share."""

import os

import pytest


@pytest.fixture(scope="session")
def rtl_cache(tmp_path_factory):
    """An empty folder for compiled designs, so that nothing is taken from the user's own cache; one for all test processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "rtl-cache"
    folder.mkdir(exist_ok=True)
    return folder
