"""Fixtures for all tests, nbval's corrections, and how tests are spread over processes."""

import hypothesis
import jaxtyping
import pytest
import torch

import notebook_comparison

notebook_comparison.install()
torch.set_num_threads(1)  # tests run side by side; one thread each
# No test has a time limit: a busy machine is no fault of the code.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def as_users_run():
    """Switch run-time type checks off: what a user's bad input meets is our own ValueError."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


#: Independent tests of one file, handed out one by one; all other files stay in one process.
SPREAD = ("test_measured_claims.py",)


def _is_spread(nodeid):
    return nodeid.split("::")[0].endswith(SPREAD)


def pytest_xdist_make_scheduler(config, log):
    """One file, one process: notebooks have a kernel each, module fixtures are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return nodeid if _is_spread(nodeid) else nodeid.split("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(config, items):
    """Slow checks only on demand; long files first, so that no process is left alone at the end."""
    if "audit" not in (config.option.markexpr or ""):
        items[:] = [item for item in items if not item.get_closest_marker("audit")]

    def rank(item):
        return 0 if item.path.suffix == ".ipynb" else 1 if _is_spread(item.nodeid) else 2

    items.sort(key=rank)
