"""Findings that cross functions and files, with the way shown step by step."""

from __future__ import annotations

from textwrap import dedent

from review_models import MODELS


def test_query_three_calls_below_the_loop(find, steps) -> None:
    """A query three calls below the loop, each in another file, is found with every step on the way."""
    found = find(
        {
            "shop/__init__.py": "",
            "shop/models.py": MODELS,
            "shop/api.py": """
                from sqlalchemy import select
                from sqlalchemy.orm import Session
                from shop.models import Order
                from shop.views import show

                def list_orders(session: Session):
                    orders = session.scalars(select(Order)).all()
                    return [show(session, order) for order in orders]
            """,
            "shop/views.py": """
                from . import customers

                def show(session, order):
                    return {"customer": customers.name_of(session, order.customer_id)}
            """,
            "shop/customers.py": """
                from .repository import customer

                def name_of(session, key):
                    return customer(session, key).name
            """,
            "shop/repository.py": """
                from sqlalchemy import select
                from shop import models as m

                def customer(session, key):
                    query = select(m.Customer).where(m.Customer.id == key)
                    return session.execute(query).scalar_one()
            """,
        },
        "n-plus-one",
    )
    assert len(found) == 1
    assert steps(found[0]) == [
        ("shop/api.py", 9),
        ("shop/api.py", 9),
        ("shop/views.py", 5),
        ("shop/customers.py", 5),
        ("shop/repository.py", 7),
    ]
    assert "Customer" in found[0].message
    assert found[0].location.file == "shop/api.py"
    assert [step.function for step in found[0].path] == [
        "list_orders",
        "list_orders",
        "show",
        "name_of",
        "customer",
    ]


def test_columns_count_characters(find) -> None:
    """Columns count characters from 1, also behind characters of several bytes."""
    text = """
        from sqlalchemy import select
        from sqlalchemy.orm import Session
        from models import Customer, Order

        def f(session: Session):
            for order in session.scalars(select(Order)): x = "ééé"; session.get(Customer, order.customer_id)
    """
    found = find({"models.py": MODELS, "app.py": text}, "n-plus-one")
    line = dedent(text).split("\n")[found[0].location.line - 1]
    place = found[0].location
    assert line[place.column - 1 : place.end_column - 1] == "session.get(Customer, order.customer_id)"


def test_two_services_with_equal_module_names(find, steps) -> None:
    """Where two services in one repository have modules of one name, an import means the near one."""
    api = """
        from sqlalchemy import select
        from sqlalchemy.orm import Session
        from models import Order
        from helper import look

        def f(session: Session):
            for order in session.scalars(select(Order)).all():
                look(session, order)
    """
    found = find(
        {
            "one/models.py": MODELS, "one/api.py": api,
            "one/helper.py": "from models import Customer\ndef look(s, o):\n    s.get(Customer, o.customer_id)\n",
            "two/models.py": MODELS, "two/api.py": api, "two/helper.py": "def look(s, o):\n    return o.id\n",
        },
        "n-plus-one",
    )  # fmt: skip
    assert {step[0] for f in found for step in steps(f)} == {"one/api.py", "one/helper.py"}


def test_session_through_dependencies_attributes_and_context_managers(find) -> None:
    """A session is followed through Depends, constructor fields, context managers and aliases."""
    found = find(
        {
            "models.py": MODELS,
            "database.py": """
                from contextlib import contextmanager
                from typing import Annotated
                from fastapi import Depends
                from sqlalchemy import create_engine
                from sqlalchemy.orm import sessionmaker
                Local = sessionmaker(create_engine("x"))

                @contextmanager
                def scope():
                    s = Local()
                    try:
                        yield s
                        s.commit()
                    finally:
                        s.close()

                def get_db():
                    with Local() as s:
                        yield s

                Db = Annotated[object, Depends(get_db)]
            """,
            "app.py": """
                from fastapi import Depends
                from database import Db, get_db, scope
                from models import Customer, Order

                def one(db=Depends(get_db)):
                    return [db.get(Customer, o.customer_id) for o in db.query(Order).all()]

                def two(x: Db):
                    return [x.get(Customer, o.customer_id) for o in x.query(Order)]

                def three():
                    with scope() as work:
                        for o in work.query(Order).all():
                            work.get(Customer, o.customer_id)

                class Store:
                    def __init__(self, maker):
                        self.work = get_it()

                    def four(self):
                        for o in self.work.query(Order).all():
                            self.work.get(Customer, o.customer_id)

                def get_it():
                    from database import Local
                    return Local()
            """,
        },
        "n-plus-one",
    )
    assert {f.subject for f in found} == {"one", "two", "three", "Store.four"}
