"""Reviewing a part of a checkout: what it imports from the rest is known, and nothing is said about the rest."""

from __future__ import annotations

from pathlib import Path

from mainstay.architect import catalog
from mainstay.architect.findings import Report
from mainstay.architect.review import review

MODELS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]

def spend_here_too(session, account_id):
    account = session.get(Account, account_id)
    if account.balance < 5:
        raise ValueError
    account.balance -= 5
    session.commit()
"""
SERVICE = """
from sqlalchemy import select
from sqlalchemy.orm import Session

from bank.tables.models import Account

def spend(session: Session, account_id: int) -> None:
    account = session.scalars(select(Account).where(Account.id == account_id)).one()
    if account.balance < 5:
        raise ValueError
    account.balance -= 5
    session.commit()
"""


def checkout(root: Path) -> Path:
    """A package whose service and models lie in different folders; the service's folder."""
    for folder in ("bank", "bank/tables", "bank/service"):
        (root / folder).mkdir()
        (root / folder / "__init__.py").write_text("")
    (root / "bank/tables/models.py").write_text(MODELS)
    (root / "bank/service/spending.py").write_text(SERVICE)
    return root / "bank/service"


def places(report: Report) -> list[str]:
    return sorted({finding.location.file for finding in report.findings})


def test_models_beside_the_reviewed_folder_are_known(tmp_path: Path) -> None:
    """The race is seen although the model was not named, and the model's own file is not spoken of."""
    service = checkout(tmp_path)
    report = review([service], validations=catalog.edges(), root=tmp_path, workers=1)
    assert places(report) == ["bank/service/spending.py"]
    assert report.statistics["files"] == 2


def test_the_whole_and_its_parts_agree(tmp_path: Path) -> None:
    """What is said of a file is the same, named alone, with its folder, or with all, with and without a cache."""
    service = checkout(tmp_path)
    cache = tmp_path / "cache"
    whole = review([tmp_path], validations=catalog.edges(), root=tmp_path, cache=cache, workers=1)
    said = {finding.fingerprint for finding in whole.findings if "service" in finding.location.file}
    assert said
    for part in (service, service / "spending.py"):
        for kept in (cache, cache, None):
            report = review([part], validations=catalog.edges(), root=tmp_path, cache=kept, workers=1)
            assert {finding.fingerprint for finding in report.findings} == said


def test_a_change_in_a_neighbour_is_noticed(tmp_path: Path) -> None:
    """A result is not taken from the cache where a file that was imported has changed since."""
    service = checkout(tmp_path)
    cache = tmp_path / "cache"
    before = review([service], validations=catalog.edges(), root=tmp_path, cache=cache, workers=1)
    assert before.findings
    (tmp_path / "bank/tables/models.py").write_text("Account = object()\n")
    after = review([service], validations=catalog.edges(), root=tmp_path, cache=cache, workers=1)
    assert not after.findings
