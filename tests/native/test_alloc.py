"""Out of memory at every allocation: an error, nothing leaked, and the next attempt works."""

from __future__ import annotations

import pytest

from tests.native.goss import MEMORY, OK, core, open_and_run
from tests.native.plans import PLANS, sample


@pytest.mark.parametrize("name", PLANS)
def test_allocation_failure_at_every_step(name: str) -> None:
    data = sample(name)
    expected = open_and_run(data)
    assert expected[0] == OK
    lib = core()
    failures = 0
    for k in range(10_000):
        lib.gs_test_fail_alloc_after(k)
        try:
            status, result = open_and_run(data)
        finally:
            lib.gs_test_fail_alloc_after(-1)
        if status == OK:
            assert result == expected[1]
            break
        failures += 1
        assert status == MEMORY, (k, result)
        assert "memory" in result
    assert failures >= 4  # model, plan, session, arena
    assert open_and_run(data) == expected
