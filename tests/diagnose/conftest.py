"""A laboratory on the small bank, opened once for a whole test file's questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstay.architect.diagnose.scenario import Scenario, load_scenario

SERVICES = Path(__file__).parent / "services"


@pytest.fixture(scope="session")
def bank() -> Scenario:
    """The scenario of the service with one endpoint for each way of being right or wrong."""
    return load_scenario(SERVICES / "bank.yaml")
