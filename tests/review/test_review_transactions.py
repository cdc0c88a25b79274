"""external-call-in-transaction, loud and quiet."""

from __future__ import annotations

import pytest
from review_models import MODELS

LOUD = {
    "atomic block": """
        from django.db import transaction
        import requests
        def f():
            with transaction.atomic():
                requests.post("https://pay.example.com/charges")
    """,
    "atomic decorator": """
        from django.db import transaction
        import requests
        @transaction.atomic
        def f():
            return charge()
        def charge():
            return requests.post("https://pay.example.com/charges")
    """,
    "atomic with arguments": """
        from django.db.transaction import atomic
        import httpx
        @atomic(using="default")
        def f():
            httpx.get("https://pay.example.com/charges")
    """,
    "session.begin": """
        from sqlalchemy.orm import Session
        import httpx
        def f(session: Session):
            with session.begin():
                httpx.post("https://pay.example.com/charges")
    """,
    "autobegin after a flush": """
        from sqlalchemy.orm import Session
        from models import Order
        import httpx
        def f(session: Session):
            session.add(Order())
            session.flush()
            httpx.post("https://pay.example.com/charges")
            session.commit()
    """,
    "row lock": """
        from sqlalchemy import select
        from sqlalchemy.orm import Session
        from models import Order
        import httpx
        def f(session: Session):
            order = session.scalar(select(Order).where(Order.id == 1).with_for_update())
            httpx.post("https://pay.example.com/charges")
            session.commit()
    """,
    "lock taken by a helper": """
        from sqlalchemy.orm import Session
        from models import Order
        import httpx
        def locked(session, key):
            return session.get(Order, key, with_for_update=True)
        def f(session: Session):
            locked(session, 1)
            httpx.post("https://pay.example.com/charges")
    """,
    "psycopg": """
        import psycopg, requests
        def f(conn: psycopg.Connection):
            conn.execute("update orders set status = 'paid' where id = 1")
            requests.post("https://pay.example.com/charges")
            conn.commit()
    """,
    "asyncpg": """
        import asyncpg, aiohttp
        async def f(conn: asyncpg.Connection, http: aiohttp.ClientSession):
            async with conn.transaction():
                await http.post("https://pay.example.com/charges")
    """,
    "client in a field": """
        from django.db import transaction
        import httpx
        class Provider:
            def __init__(self):
                self._client = httpx.Client()
            def charge(self):
                return self._client.post("https://pay.example.com/charges")
        provider = Provider()
        def f():
            with transaction.atomic():
                provider.charge()
    """,
    "atomic requests": """
        import requests
        DATABASES = {"default": {"ENGINE": "postgresql", "ATOMIC_REQUESTS": True}}
        def f(request):
            requests.post("https://pay.example.com/charges")
    """,
}

QUIET = {
    "after the block": """
        from django.db import transaction
        import requests
        def f():
            with transaction.atomic():
                pass
            requests.post("https://pay.example.com/charges")
    """,
    "after the commit": """
        from sqlalchemy.orm import Session
        from models import Order
        import httpx
        def f(session: Session):
            session.add(Order())
            session.commit()
            httpx.post("https://pay.example.com/charges")
    """,
    "before the first statement": """
        from sqlalchemy.orm import Session
        from models import Order
        import httpx
        def f(session: Session):
            httpx.post("https://pay.example.com/charges")
            session.add(Order())
            session.commit()
    """,
    "on_commit with a lambda": """
        from django.db import transaction
        import requests
        def f():
            with transaction.atomic():
                transaction.on_commit(lambda: requests.post("https://pay.example.com/charges"))
    """,
    "on_commit with a nested function": """
        from django.db import transaction
        import requests
        def f():
            with transaction.atomic():
                def later():
                    requests.post("https://pay.example.com/charges")
                transaction.on_commit(later, robust=True)
    """,
    "on_commit with partial": """
        from functools import partial
        from django.db import transaction
        import requests
        def send(url):
            requests.post(url)
        def f():
            with transaction.atomic():
                transaction.on_commit(partial(send, "https://pay.example.com/charges"))
    """,
    "on_commit as a decorator": """
        from django.db import transaction
        import requests
        def f():
            with transaction.atomic():
                @transaction.on_commit
                def later():
                    requests.post("https://pay.example.com/charges")
    """,
    "handed to a queue": """
        from celery import shared_task
        from django.db import transaction
        import requests
        @shared_task
        def charge():
            requests.post("https://pay.example.com/charges")
        def f():
            with transaction.atomic():
                charge.delay()
    """,
    "handed to a thread": """
        import threading
        from django.db import transaction
        import requests
        def charge():
            requests.post("https://pay.example.com/charges")
        def f():
            with transaction.atomic():
                threading.Thread(target=charge).start()
    """,
    "two transactions around it": """
        from sqlalchemy.orm import sessionmaker
        import httpx
        Local = sessionmaker()
        def f():
            with Local.begin() as session:
                session.flush()
            httpx.post("https://pay.example.com/charges")
            with Local.begin() as session:
                session.flush()
    """,
    "after the session": """
        from sqlalchemy import select
        from sqlalchemy.orm import sessionmaker
        from models import Order
        import httpx
        Local = sessionmaker()
        def f():
            with Local() as session:
                session.scalar(select(Order).with_for_update())
            httpx.post("https://pay.example.com/charges")
    """,
    "not atomic requests": """
        from django.db import transaction
        import requests
        DATABASES = {"default": {"ENGINE": "postgresql", "ATOMIC_REQUESTS": True}}
        @transaction.non_atomic_requests
        def f(request):
            requests.post("https://pay.example.com/charges")
    """,
}


@pytest.mark.parametrize("name", LOUD)
def test_loud(find, name: str) -> None:
    """A call to another system while a transaction is open is found, however it was opened."""
    found = find({"app.py": LOUD[name], "models.py": MODELS}, "external-call-in-transaction")
    assert [f.subject for f in found] == ["f"], name
    assert len(found[0].path) >= 2


@pytest.mark.parametrize("name", QUIET)
def test_quiet(find, name: str) -> None:
    """A call before, after, between transactions, after the commit or elsewhere is none."""
    assert find({"app.py": QUIET[name], "models.py": MODELS}, "external-call-in-transaction") == []


def test_only_reads_before_is_possible(find) -> None:
    """After plain reads a transaction is open too, but that harms little: shown on request."""
    files = {
        "models.py": MODELS,
        "app.py": """
            from sqlalchemy.orm import Session
            from models import Order
            import httpx
            def f(session: Session):
                session.get(Order, 1)
                httpx.get("https://pay.example.com/rates")
        """,
    }
    assert find(files, "external-call-in-transaction") == []
    assert len(find(files, "external-call-in-transaction", possible=True)) == 1


def test_the_path_names_begin_calls_and_the_wait(find) -> None:
    """The way goes from where the transaction opens, over every call, to the request."""
    files = {
        "app.py": """
            from django.db import transaction
            from services import pay
            def f():
                with transaction.atomic():
                    pay()
        """,
        "services.py": """
            from provider import charge
            def pay():
                charge()
        """,
        "provider.py": """
            import requests
            def charge():
                requests.post("https://pay.example.com/charges")
        """,
    }
    (found,) = find(files, "external-call-in-transaction")
    assert [(s.location.file, s.location.line) for s in found.path] == [
        ("app.py", 5),
        ("app.py", 6),
        ("services.py", 4),
        ("provider.py", 4),
    ]
    assert "pay.example.com" in found.message


@pytest.mark.parametrize(
    ("head", "call"),
    [
        ("import stripe", "stripe.PaymentIntent.create(amount=3)"),
        ("import stripe", "stripe.checkout.Session.create()"),
        (
            "from stripe import StripeClient\nclient = StripeClient('key')",
            "client.v1.payment_intents.create({})",
        ),
        ("import boto3\ns3 = boto3.client('s3')", "s3.put_object(Bucket='b')"),
        ("from slack_sdk import WebClient\nslack = WebClient()", "slack.chat_postMessage(text='x')"),
        ("from twilio.rest import Client\nphone = Client()", "phone.messages.create(body='x')"),
        ("import smtplib", "smtplib.SMTP('host').sendmail('a', 'b', 'c')"),
        ("from django.core.mail import send_mail", "send_mail('a', 'b', 'c', ['d'])"),
        ("from urllib.request import urlopen", "urlopen('https://pay.example.com')"),
        ("import urllib3\npool = urllib3.PoolManager()", "pool.request('GET', 'https://pay.example.com')"),
    ],
)
def test_known_systems(find, head: str, call: str) -> None:
    """Payment, mail, stores and messengers are other systems as well."""
    text = f"from django.db import transaction\n{head}\n\ndef f():\n    with transaction.atomic():\n        {call}\n"
    assert [f.subject for f in find(text, "external-call-in-transaction")] == ["f"]
