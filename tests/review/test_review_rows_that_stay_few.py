"""n-plus-one: where the code itself shows that rows stay few, or turns rare, a query a row is a possible finding.

Each rule has a pair of programs that differ in one thing: the quiet one shows it, the loud one does not.
"""

from __future__ import annotations

import pytest

MODELS = """
    from django.db import models

    class Author(models.Model):
        name = models.CharField(max_length=80)

    class Book(models.Model):
        author = models.ForeignKey(Author, related_name="books", on_delete=models.CASCADE)
        title = models.CharField(max_length=80)

    class Chapter(models.Model):
        book = models.ForeignKey(Book, related_name="chapters", on_delete=models.CASCADE)
        number = models.IntegerField()
"""
DECLARED = """
    from sqlalchemy import ForeignKey, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

    class Base(DeclarativeBase):
        pass

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Book(Base):
        __tablename__ = "book"
        id: Mapped[int] = mapped_column(primary_key=True)
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author] = relationship()
"""

WALK = """
            for book in Book.objects.filter(title="x"):
                print(book.author.name)
"""
PAIRS = {
    "seldom work": (
        {"views.py": f"from models import Book\ndef merge_titles():\n    {WALK.strip()}\n"},
        {"views.py": f"from models import Book\ndef show_titles():\n    {WALK.strip()}\n"},
    ),
    "called by seldom work alone": (
        {
            "views.py": f"from models import Book\ndef all_of_them():\n    {WALK.strip()}\n"
            "def purge(request):\n    all_of_them()\n"
        },
        {
            "views.py": f"from models import Book\ndef all_of_them():\n    {WALK.strip()}\n"
            "def purge(request):\n    all_of_them()\ndef listing(request):\n    all_of_them()\n"
        },
    ),
    "asked for by seldom work alone, by a method rather than a property": (
        {
            "views.py": """
                from models import Author, Book
                class Shelf:
                    def names(self):
                        return [book.author.name for book in Book.objects.all()]
                def purge(shelf: Shelf):
                    print(shelf.names())
            """
        },
        {
            "views.py": """
                from models import Author, Book
                class Shelf:
                    @property
                    def names(self):
                        return [book.author.name for book in Book.objects.all()]
                def purge(shelf: Shelf):
                    print(shelf.names)
            """
        },
    ),
    "one record is deleted": (
        {"views.py": f"from models import Book\ndef delete(request, pk):\n    {WALK.strip()}\n"},
        {"views.py": f"from models import Book\ndef delete_books(request, pks):\n    {WALK.strip()}\n"},
    ),
    "a module of background jobs": (
        {"app/tasks.py": f"from models import Book\ndef send():\n    {WALK.strip()}\n"},
        {"app/sending.py": f"from models import Book\ndef send():\n    {WALK.strip()}\n"},
    ),
    "a timer's signal": (
        {
            "views.py": "from django.dispatch import receiver\nfrom models import Book\n"
            f"@receiver(signal=periodic_task)\ndef send(sender, **kwargs):\n    {WALK.strip()}\n"
        },
        {
            "views.py": "from django.dispatch import receiver\nfrom models import Book\n"
            f"@receiver(signal=menu_shown)\ndef send(sender, **kwargs):\n    {WALK.strip()}\n"
        },
    ),
    "a system check": (
        {"views.py": f"from models import Book\ndef check(app_configs, **kwargs):\n    {WALK.strip()}\n"},
        {"views.py": f"from models import Book\ndef check(settings, **kwargs):\n    {WALK.strip()}\n"},
    ),
    "rows of what a signal is about": (
        {
            "views.py": """
                from models import Book
                def saved(sender, instance, **kwargs):
                    for book in Book.objects.filter(title=instance.title):
                        print(book.author.name)
            """
        },
        {
            "views.py": """
                from models import Book
                def saved(sender, instance, **kwargs):
                    for book in Book.objects.all():
                        print(book.author.name)
            """
        },
    ),
    "a transaction somewhere in each turn": (
        {
            "views.py": """
                from django.db import transaction
                from models import Book
                def view():
                    for book in Book.objects.all():
                        name = book.author.name
                        with transaction.atomic():
                            print(name)
                            Book.objects.create(title=name)
            """
        },
        {
            "views.py": """
                from django.db import transaction
                from models import Book
                def view():
                    with transaction.atomic():
                        for book in Book.objects.all():
                            name = book.author.name
                            print(name)
                            Book.objects.create(title=name)
            """
        },
    ),
    "an operation that reads what it writes": (
        {
            "views.py": """
                from models import Author, Book
                def rename(pk):
                    author = Author.objects.get(name=pk)
                    author.name = "y"
                    author.save()
                def view():
                    for book in Book.objects.all():
                        rename(book.title)
            """
        },
        {
            "views.py": """
                from models import Author, Book
                def rename(pk):
                    author = Author.objects.get(name=pk)
                    Book.objects.create(author=author)
                def view():
                    for book in Book.objects.all():
                        rename(book.title)
            """
        },
    ),
    "read again on purpose, by a function of the program": (
        {
            "views.py": """
                from models import Author, Book
                def reload_author(pk):
                    return Author.objects.get(pk=pk)
                def view():
                    for book in Book.objects.all():
                        reload_author(book.author_id)
            """
        },
        {
            "views.py": """
                from models import Author, Book
                def load_author(pk):
                    return Author.objects.get(pk=pk)
                def view():
                    for book in Book.objects.all():
                        load_author(book.author_id)
            """
        },
    ),
    "behind a switch of the settings": (
        {
            "views.py": """
                from django.conf import settings
                from models import Book
                def view():
                    for book in Book.objects.all():
                        if settings.SHOW_AUTHORS:
                            print(book.author.name)
            """
        },
        {
            "views.py": """
                from django.conf import settings
                from models import Book
                def view():
                    if not settings.SHOW_AUTHORS:
                        return
                    for book in Book.objects.all():
                        print(book.author.name)
            """
        },
    ),
    "behind a switch that is asked for by name": (
        {
            "views.py": """
                from django.conf import settings
                from models import Book
                def view():
                    for book in Book.objects.all():
                        if getattr(settings, "SHOW_AUTHORS", False):
                            print(book.author.name)
            """
        },
        {
            "views.py": """
                from models import Book
                def view(choice):
                    for book in Book.objects.all():
                        if getattr(choice, "show_authors", False):
                            print(book.author.name)
            """
        },
    ),
    "for another database than PostgreSQL": (
        {
            "views.py": """
                from django.db import connection
                from models import Book
                def view():
                    if connection.vendor == "postgresql":
                        return
                    for book in Book.objects.all():
                        print(book.author.name)
            """
        },
        {
            "views.py": """
                from django.db import connection
                from models import Book
                def view():
                    if connection.vendor == "sqlite":
                        return
                    for book in Book.objects.all():
                        print(book.author.name)
            """
        },
    ),
    "a part of the children of one record": (
        {
            "views.py": """
                from models import Author
                def view(pk):
                    author = Author.objects.get(pk=pk)
                    for book in author.books.filter(title="x"):
                        print(book.chapters.filter(number=1).first())
            """
        },
        {
            "views.py": """
                from models import Author
                def view(pk):
                    author = Author.objects.get(pk=pk)
                    for book in author.books.all():
                        print(book.chapters.filter(number=1).first())
            """
        },
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pair(find, tmp_path, name: str) -> None:
    """The program that shows why rows or turns are few is quiet, and still listed; its twin is printed."""
    quiet, loud = PAIRS[name]
    everything = find({"models.py": MODELS, **quiet}, "n-plus-one", possible=True)
    assert [f.verdict for f in everything if f.subject != "Author"] == ["possible"] * len(everything)
    assert everything
    for file in quiet:
        (tmp_path / file).unlink()
    assert len(find({"models.py": MODELS, **loud}, "n-plus-one")) == 1


def test_session_for_each_turn(find) -> None:
    """A session for each turn makes the turn a unit of work; one session around all turns does not."""
    rows = "    with Session() as session:\n        books = session.scalars(select(Book)).all()\n"
    turns, opened = "for book in books:\n", "with Session() as session:\n"
    each = f"    {turns}        {opened}            session.get(Author, book.author_id)\n"
    one = f"    {opened}        {turns}            session.get(Author, book.author_id)\n"
    models = {"models.py": DECLARED}
    top = "from models import *\ndef view():\n"
    assert find({**models, "views.py": top + rows + each}, "n-plus-one") == []
    assert len(find({**models, "views.py": top + rows + one}, "n-plus-one")) == 1


def test_commit_in_each_turn(find) -> None:
    """A turn that commits is a unit of work of its own."""
    top = (
        "from models import *\ndef view(session: Session):\n    for book in session.scalars(select(Book)):\n"
    )
    turn = "        session.get(Author, book.author_id)\n"
    models = {"models.py": DECLARED}
    assert find({**models, "views.py": f"{top}{turn}        session.commit()\n"}, "n-plus-one") == []
    assert len(find({**models, "views.py": f"{top}{turn}    session.commit()\n"}, "n-plus-one")) == 1


def test_a_lazy_relation_of_a_part_of_the_children_is_printed(find) -> None:
    """A relation that loads lazily is worth its mend for few rows too: it costs one word."""
    views = """
        from models import Author
        def view(pk):
            author = Author.objects.get(pk=pk)
            for book in author.books.filter(title="x"):
                for chapter in book.chapters.filter(number=1):
                    print(chapter.book.title)
        def other(author_pk):
            author = Author.objects.get(pk=author_pk)
            for book in author.books.filter(title="x"):
                print(book.publisher.name)
    """
    models = MODELS.replace(
        "class Book(models.Model):",
        "class Publisher(models.Model):\n        name = models.CharField(max_length=80)\n\n"
        "    class Book(models.Model):\n"
        "        publisher = models.ForeignKey(Publisher, on_delete=models.CASCADE)",
    )
    assert [f.subject for f in find({"models.py": models, "views.py": views}, "n-plus-one")] == ["other"]


CHECK = """
    from celery import shared_task
    from models import Author

    def enter(name):
        if not Author.objects.filter(name=name).exists():
            Author.objects.create(name=name)

    @shared_task
    def job(name):
        enter(name)
"""


def test_check_then_act_in_a_background_job_alone(find) -> None:
    """Whether two jobs of a kind run at once is up to the queue's settings: possible, unless a request comes there."""
    assert find({"models.py": MODELS, "views.py": CHECK}, "check-then-act") == []
    request = CHECK + "\n    def view(request):\n        enter(request.user.name)\n"
    assert len(find({"models.py": MODELS, "views.py": request}, "check-then-act")) == 1


def test_check_then_act_while_data_is_shredded(find) -> None:
    """What is erased twice is erased: no race worth the minute."""
    shred = CHECK.replace("@shared_task", "").replace("def enter", "def shred_author")
    assert find({"models.py": MODELS, "views.py": shred.replace("enter(name)", "shred_author(name)")},
                "check-then-act") == []  # fmt: skip
