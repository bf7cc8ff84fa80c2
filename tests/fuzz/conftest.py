"""Says in the end how many cases there were."""

import pytest

from tests.helpers.fuzzing import PASSED


@pytest.fixture(autouse=True)
def _counted(request):
    """Hand the number of cases on, from other processes too."""
    before = PASSED.total()
    yield
    request.node.user_properties.append(("cases", PASSED.total() - before))


def pytest_terminal_summary(terminalreporter):
    """Print the cases of every test; a report of the teardown has them."""
    reports = [report for lists in terminalreporter.stats.values() for report in lists]
    found = {r.nodeid: n for r in reports for key, n in getattr(r, "user_properties", ()) if key == "cases"}
    for name, count in found.items():
        terminalreporter.line(f"{count:>7,} {name.rpartition('::')[2]}")
    if found:
        terminalreporter.line(f"{sum(found.values()):>7,} fuzzed cases")
