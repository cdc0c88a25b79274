"""n-plus-one, loud and quiet, on Django and SQLAlchemy."""

from __future__ import annotations

import pytest
from review_models import MODELS

DJANGO = """
    from django.db import models

    class Author(models.Model):
        name = models.CharField(max_length=80)

    class Tag(models.Model):
        name = models.CharField(max_length=80)

    class Book(models.Model):
        author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
        tags = models.ManyToManyField("Tag")
        title = models.CharField(max_length=80)

        @property
        def by(self):
            return self.author.name

    class Review(models.Model):
        book = models.ForeignKey("Book", on_delete=models.CASCADE)
"""

LOUD_DJANGO = {
    "forward relation": "for b in Book.objects.all():\n    print(b.author.name)",
    "reverse relation": "for a in Author.objects.filter(name='x'):\n    print(list(a.books.all()))",
    "default reverse name": "for b in Book.objects.all():\n    print(b.review_set.count())",
    "many to many": "for b in Book.objects.order_by('title'):\n    print([t.name for t in b.tags.all()])",
    "property": "return [b.by for b in Book.objects.all()]",
    "get by key": "for r in Review.objects.all():\n    Book.objects.get(pk=r.book_id)",
    "narrowed after prefetch": (
        "for a in Author.objects.prefetch_related('books'):\n    print(a.books.filter(title='x').first())"
    ),
    "sorted by relation": "return sorted(Book.objects.all(), key=lambda b: b.author.name)",
    "map": "return list(map(lambda b: b.author.name, Book.objects.all()))",
    "generator": "return sum(b.author.id for b in Book.objects.all())",
    "values then get": "for k in Book.objects.values_list('author_id', flat=True):\n    Author.objects.get(pk=k)",
    "variable": "books = Book.objects.filter(title='x')\nfor b in books:\n    print(b.author)",
    "branch": "for b in Book.objects.all():\n    if b.title:\n        print(b.author.name)",
    "mapping": "books = {b.pk: b for b in Book.objects.all()}\nfor b in books.values():\n    print(b.author.name)",
}

QUIET_DJANGO = {
    "select_related": "for b in Book.objects.select_related('author'):\n    print(b.author.name)",
    "select_related through a helper": "for b in books():\n    print(b.author.name)",
    "prefetch_related": "for a in Author.objects.prefetch_related('books'):\n    print(list(a.books.all()))",
    "prefetch nested": (
        "for a in Author.objects.prefetch_related('books__tags'):\n"
        "    for b in a.books.all():\n        print(b.tags.all()[0])"
    ),
    "Prefetch object": (
        "q = Book.objects.select_related('author')\n"
        "for r in Review.objects.prefetch_related(Prefetch('book', queryset=q)):\n    print(r.book.author.name)"
    ),
    "count of prefetched": "for a in Author.objects.prefetch_related('books'):\n    print(a.books.count())",
    "foreign key itself": "for b in Book.objects.all():\n    print(b.author_id)",
    "back to the parent": "for a in Author.objects.prefetch_related('books'):\n"
                          "    for b in a.books.all():\n        print(b.author.name)",
    "constant loop": "for name in ('a', 'b'):\n    Author.objects.filter(name=name).first()",
    "constant by name": "for name in NAMES:\n    Author.objects.filter(name=name).first()",
    "few": "for b in Book.objects.all()[:5]:\n    print(b.author.name)",
    "batches": "for batch in batched(ids, 100):\n    list(Book.objects.filter(pk__in=batch))",
    "range in steps": "for i in range(0, n, 500):\n    list(Book.objects.all()[i:i + 500])",
    "one query for all": "ids = [b.author_id for b in Book.objects.all()]\nlist(Author.objects.filter(pk__in=ids))",
    "first only": "for b in Book.objects.all():\n    return b.author.name",
    "built in memory": "for b in [Book(title=t) for t in titles]:\n    print(b.title)",
    "not about the row": "for b in Book.objects.all():\n    pass\nprint(Author.objects.count())",
    "bulk": "Book.objects.bulk_create([Book(title=t) for t in titles])",
    "on commit": "for b in Book.objects.all():\n    transaction.on_commit(lambda: tell(b.author.name))",
}  # fmt: skip

HEAD = """
from django.db import transaction
from django.db.models import Prefetch
from app.models import Author, Book, Review, Tag
NAMES = ['a', 'b']

def books():
    return Book.objects.filter(title='x').select_related('author')

def f(ids, n, titles):
"""


def django(body: str) -> dict[str, str]:
    lines = "\n".join("    " + line for line in body.split("\n"))
    return {"app/__init__.py": "", "app/models.py": DJANGO, "app/views.py": HEAD + lines + "\n"}


@pytest.mark.parametrize("name", LOUD_DJANGO)
def test_loud_on_django(find, name: str) -> None:
    """A query for each row is found, however it is written."""
    found = find(django(LOUD_DJANGO[name]), "n-plus-one")
    assert len(found) == 1, name
    assert found[0].location.file == "app/views.py"


@pytest.mark.parametrize("name", QUIET_DJANGO)
def test_quiet_on_django(find, name: str) -> None:
    """What is loaded along, bounded, batched or asked once is no finding."""
    assert find(django(QUIET_DJANGO[name]), "n-plus-one") == []


def test_custom_manager_that_loads_along(find) -> None:
    """A manager whose `get_queryset` loads a relation along quiets all who use it."""
    files = django("for b in Book.objects.filter(title='x'):\n    print(b.author.name)")
    assert len(find(files, "n-plus-one")) == 1
    files["app/models.py"] = DJANGO.replace(
        "    class Book(models.Model):\n",
        "    class BookManager(models.Manager):\n"
        "        def get_queryset(self):\n"
        "            return super().get_queryset().select_related('author')\n\n"
        "    class Book(models.Model):\n        objects = BookManager()\n",
    )
    assert find(files, "n-plus-one") == []


def test_custom_queryset_methods_keep_the_model(find) -> None:
    """Methods of a custom queryset give rows of the model that it was asked through."""
    files = django("for b in Book.objects.fresh():\n    print(b.author.name)")
    files["app/models.py"] = DJANGO.replace(
        "    class Book(models.Model):\n",
        "    class BookQuerySet(models.QuerySet):\n"
        "        def fresh(self):\n            return self.filter(title='x')\n\n"
        "    class Book(models.Model):\n        objects = BookQuerySet.as_manager()\n",
    )
    assert len(find(files, "n-plus-one")) == 1


LOUD_SQLALCHEMY = {
    "query in loop": "for o in session.scalars(select(Order)).all():\n    session.get(Customer, o.customer_id)",
    "lazy relation": "for o in session.execute(select(Order)).scalars():\n    print(o.customer.name)",
    "legacy query": "for o in session.query(Order).filter(Order.id > 1):\n    print(o.lines)",
    "core rows": (
        "for row in session.execute(select(Order.id)):\n"
        "    session.execute(select(Line).where(Line.order_id == row.id)).all()"
    ),
    "text": (
        "for row in session.execute(text('select id from orders')):\n"
        "    session.execute(text('select * from lines where order_id = :o'), {'o': row.id})"
    ),
    "limit from outside": "for o in session.scalars(select(Order).limit(n)):\n    session.get(Customer, o.customer_id)",
}

QUIET_SQLALCHEMY = {
    "selectinload": "for o in session.scalars(select(Order).options(selectinload(Order.lines))):\n    print(o.lines)",
    "joinedload nested": (
        "for line in session.scalars(select(Line).options(joinedload(Line.order).joinedload(Order.customer))):\n"
        "    print(line.order.customer.name)"
    ),
    "back_populates": (
        "for o in session.scalars(select(Order).options(selectinload(Order.lines))):\n"
        "    for line in o.lines:\n        print(line.order.id)"
    ),
    "options in a variable": (
        "whole = [selectinload(Order.lines)]\n"
        "for o in session.scalars(select(Order).options(*whole)):\n    print(o.lines)"
    ),
    "in chunks": (
        "for chunk in chunks(ids, 100):\n    session.scalars(select(Order).where(Order.id.in_(chunk))).all()"
    ),
    "retry": (
        "for attempt in range(3):\n    session.scalars(select(Order).where(Order.id == attempt)).all()"
    ),
    "pending rows": "for o in session.scalars(select(Order)):\n    session.add(Line(order_id=o.id))",
}

SQLALCHEMY_HEAD = """
from sqlalchemy import select, text
from sqlalchemy.orm import Session, joinedload, selectinload
from app.models import Customer, Line, Order

def f(session: Session, ids, n):
"""


def sqlalchemy(body: str) -> dict[str, str]:
    lines = "\n".join("    " + line for line in body.split("\n"))
    return {"app/__init__.py": "", "app/models.py": MODELS, "app/views.py": SQLALCHEMY_HEAD + lines + "\n"}


@pytest.mark.parametrize("name", LOUD_SQLALCHEMY)
def test_loud_on_sqlalchemy(find, name: str) -> None:
    """A query for each row is found with the ORM, with Core and with SQL text."""
    assert len(find(sqlalchemy(LOUD_SQLALCHEMY[name]), "n-plus-one")) == 1, name


@pytest.mark.parametrize("name", QUIET_SQLALCHEMY)
def test_quiet_on_sqlalchemy(find, name: str) -> None:
    """What is loaded along, chunked, bounded or merely pending is no finding."""
    assert find(sqlalchemy(QUIET_SQLALCHEMY[name]), "n-plus-one") == []


def test_eager_by_the_relationship(find) -> None:
    """``lazy="selectin"`` and ``lazy="raise"`` on the relationship cost no query for each row."""
    files = sqlalchemy("for o in session.scalars(select(Order)):\n    print(o.customer.name)")
    for mode in ("selectin", "joined", "raise"):
        files["app/models.py"] = MODELS.replace(
            'customer: Mapped["Customer"] = relationship()',
            f'customer: Mapped["Customer"] = relationship(lazy="{mode}")',
        )
        assert find(files, "n-plus-one") == []


def test_async_sessions_do_not_load_lazily(find) -> None:
    """Rows of an AsyncSession cannot load by being looked at, so looking is no query."""
    files = sqlalchemy("for o in await session.scalars(select(Order)):\n    print(o.customer.name)")
    files["app/views.py"] = (
        files["app/views.py"].replace("def f(session: Session", "async def f(session: AsyncSession")
        + "\nfrom sqlalchemy.ext.asyncio import AsyncSession\n"
    )
    assert find(files, "n-plus-one") == []


def test_scripts_and_tests_are_not_printed(find) -> None:
    """In tests nothing is found; in management commands findings are possible at most."""
    loud = django(LOUD_DJANGO["forward relation"])
    loud["app/management/commands/report.py"] = loud["app/views.py"]
    loud["tests/test_views.py"] = loud.pop("app/views.py")
    assert find(loud, "n-plus-one") == []
    assert [f.location.file for f in find(loud, "n-plus-one", possible=True)] == [
        "app/management/commands/report.py"
    ]


def test_drivers(find) -> None:
    """Plain SQL through asyncpg and psycopg is followed by its text."""
    found = find(
        """
        import asyncpg, psycopg

        async def one(pool: asyncpg.Pool):
            rows = await pool.fetch("select id from orders")
            return [await pool.fetchrow("select * from lines where order_id = $1", row["id"]) for row in rows]

        def two(conn: psycopg.Connection):
            with conn.cursor() as cur:
                for row in cur.execute("select id from orders").fetchall():
                    cur.execute("select * from lines where order_id = %s", (row[0],)).fetchone()
        """,
        "n-plus-one",
    )
    assert {(f.subject, "lines" in f.message) for f in found} == {("one", True), ("two", True)}


def test_models_known_by_name(find) -> None:
    """`get_model`, the user model of the settings, and relations of abstract models are followed."""
    files = {
        "settings.py": 'AUTH_USER_MODEL = "people.Person"',
        "people/__init__.py": "",
        "people/models.py": """
            from django.db import models
            class Person(models.Model):
                name = models.CharField(max_length=9)
        """,
        "orders/__init__.py": "",
        "orders/models.py": """
            from django.conf import settings
            from django.db import models
            class AbstractOrder(models.Model):
                owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
                class Meta:
                    abstract = True
                def one(self):
                    return [line.product for line in self.lines.all()]
            class Order(AbstractOrder):
                pass
            class Product(models.Model):
                pass
            class Line(models.Model):
                order = models.ForeignKey("orders.Order", related_name="lines", on_delete=models.CASCADE)
                product = models.ForeignKey("orders.Product", on_delete=models.CASCADE)
        """,
        "views.py": """
            from django.apps import apps
            Order = apps.get_model("orders", "Order")
            def two():
                return [order.owner.name for order in Order.objects.all()]
        """,
    }
    found = find(files, "n-plus-one")
    assert {f.subject for f in found} == {"AbstractOrder.one", "two"}
    assert any("Person" in f.message for f in found)
