"""Fixtures for all tests, nbval's corrections, and how tests are spread over processes."""

import jaxtyping
import notebook_comparison
import pytest
import torch

notebook_comparison.install()
torch.set_num_threads(1)  # tests run side by side; one thread each


@pytest.fixture
def as_users_run():
    """Switch run-time type checks off: what a user's bad input meets is our own ValueError."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Slow checks only on demand; one file stays in one process, unless its tests say otherwise.

    Notebooks need it (a kernel each), module fixtures profit from it. Tests marked `spread` are
    handed out one by one. The long ones come first, so that no process is left alone at the end.
    """
    if "audit" not in (config.option.markexpr or ""):
        items[:] = [item for item in items if not item.get_closest_marker("audit")]
    for item in items:
        if not item.get_closest_marker("spread"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))

    def rank(item):
        return 0 if item.path.suffix == ".ipynb" else 1 if item.get_closest_marker("spread") else 2

    items.sort(key=rank)
