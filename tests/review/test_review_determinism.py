"""The same source gives the same findings, whatever order Python's sets have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from review_models import MODELS

PROGRAM = """
from sqlalchemy import select
from sqlalchemy.orm import Session
from models import Customer, Line, Order

def f(session: Session, a, b, c):
    order = session.get(Order, a)
    other = session.get(Order, b)
    if order.customer_id < c and other.customer_id < c and order.id < other.id:
        raise ValueError
    order.customer_id -= c
    other.customer_id -= c
    for line in session.scalars(select(Line)).all():
        print(line.order.customer.name, session.get(Customer, line.id), session.get(Order, line.id))
"""

RUN = """
import sys
from pathlib import Path
from conftest import VALIDATIONS
from mainstay.architect.review import review
for finding in review([Path(sys.argv[1])], validations=VALIDATIONS, root=Path(sys.argv[1])).findings:
    print(finding.fingerprint, finding.verdict, finding.location, finding.message)
    for step in finding.path:
        print(" ", step)
"""


def test_findings_do_not_hang_on_hash_seeds(tmp_path: Path) -> None:
    """Runs in processes with different hash seeds print the same, line by line."""
    (tmp_path / "models.py").write_text("\n".join(line[4:] for line in MODELS.split("\n")))
    (tmp_path / "app.py").write_text(PROGRAM)
    said = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent)}
        run = subprocess.run(
            [sys.executable, "-c", RUN, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(run.stdout)
    assert len(said) == 1
    assert "Order" in said.pop()
