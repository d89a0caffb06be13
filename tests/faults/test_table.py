"""The short version of the table of faults, row by row: `pytest -m faults`, or `make faults SIZE=ci` for two at a time."""

import pytest

from tests.faults.fault import Fault
from tests.faults.outcome import Outcome
from tests.faults.table import FAULTS


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.ci], ids=lambda fault: fault.name)
def test_no_promise_is_broken(fault: Fault):
    """Each row says what is done and what must hold."""
    outcome = Outcome()
    for first in range(0, number := fault.trials("ci"), fault.part):
        outcome.add(fault.run(0, range(first, min(first + fault.part, number))))

    assert outcome.failures == []
    assert outcome.trials >= number
