"""n-plus-one: a query that does not happen in every turn, or in no request at all, is a possible finding at most."""

from __future__ import annotations

import pytest

MODELS = """
    from django.db import models

    class Author(models.Model):
        name = models.CharField(max_length=80)

    class Book(models.Model):
        author = models.ForeignKey(Author, on_delete=models.CASCADE)
        title = models.CharField(max_length=80)

        def save(self, *args, **kwargs):
            if self.author.name:
                super().save(*args, **kwargs)

        def rename(self):
            print(self.author.name)
"""

QUIET = {
    "where an error is told": {
        "views.py": """
            from models import Book
            def view():
                for book in Book.objects.all():
                    try:
                        book.check()
                    except RuntimeError:
                        print(book.author.name)
        """
    },
    "where an error is told, one call below": {
        "views.py": """
            from models import Book
            def work(book):
                try:
                    book.check()
                except Exception:
                    print(book.author.name)
            def view():
                for book in Book.objects.all():
                    work(book)
        """
    },
    "part of saving the row": {
        "views.py": """
            from models import Book
            def view():
                for book in Book.objects.filter(title="x"):
                    book.title = "y"
                    book.save()
        """
    },
    "below many branches": {
        "views.py": """
            from models import Book
            def fourth(book, a):
                if a:
                    print(book.author.name)
            def third(book, a):
                if a:
                    fourth(book, a)
            def second(book, a):
                if a:
                    third(book, a)
            def first(book, a):
                if a:
                    second(book, a)
            def view(a):
                for book in Book.objects.all():
                    first(book, a)
        """
    },
    "called by a command only": {
        "lib.py": """
            from models import Book
            def fill():
                for book in Book.objects.all():
                    print(book.author.name)
        """,
        "management/commands/fill.py": "from lib import fill\ndef handle():\n    fill()\n",
    },
    "asked for by a flag that is off": {
        "views.py": """
            from models import Author, Book
            def log(book, check=True):
                if check and book.title and Author.objects.filter(name=book.title).exists():
                    print(book.title)
            def view():
                for book in Book.objects.all():
                    log(book, check=False)
        """
    },
    "another class by then": {
        "views.py": """
            from models import Author, Book
            class Row:
                def __init__(self, name):
                    self.name = name
                    self.books = [1, 2]
            def view(one: Book):
                for thing in Book.objects.all():
                    if isinstance(thing, Row):
                        print(thing.author)
        """
    },
    "a lock for each turn": {
        "views.py": """
            from models import Author, Book
            def view():
                for book in Book.objects.all():
                    with book.lock:
                        print(Author.objects.get(pk=book.author_id))
        """
    },
    "a query in one place, rows in another": {
        "views.py": """
            from models import Author, Book
            def names(rows):
                return [row.name for row in rows]
            def view():
                names(Author.objects.all())
                for title in Book.objects.values_list("title", flat=True):
                    names([Author(name=title)])
        """
    },
    "on the way out of the loop": {
        "views.py": """
            from models import Book
            def check():
                for book in Book.objects.all():
                    if not book.title:
                        raise ValueError(f"no title by {book.author.name}")
                    if book.title == "x":
                        return book.author.name
        """
    },
    "the row read again on purpose": {
        "views.py": """
            from models import Book
            def view():
                for book in Book.objects.all():
                    book.refresh_from_db()
        """
    },
    "in a background job that nobody waits for": {
        "tasks.py": """
            from celery import shared_task
            from models import Book
            def rename_all():
                for book in Book.objects.all():
                    book.rename()
            @shared_task
            def tidy():
                rename_all()
        """
    },
    "run after a migration": {
        "apps.py": """
            from django.db.models.signals import post_migrate
            from models import Book
            def fill(sender, **kwargs):
                for book in Book.objects.all():
                    print(book.author.name)
            def ready(self):
                post_migrate.connect(fill, sender=self)
        """
    },
}

LOUD = {
    "called by a job and by a view": """
        from celery import shared_task
        from models import Book
        def fill():
            for book in Book.objects.all():
                book.rename()
        @shared_task
        def job():
            fill()
        def view(request):
            fill()
    """,
    "where a row is missing": """
        from models import Author, Book
        def view():
            for book in Book.objects.all():
                try:
                    print(Author.objects.get(name=book.title))
                except Author.DoesNotExist:
                    pass
    """,
    "called by a command and by a view": """
        from models import Book
        def fill():
            for book in Book.objects.all():
                book.rename()
        def view(request):
            fill()
    """,
}


@pytest.mark.parametrize("name", QUIET)
def test_quiet(find, name: str) -> None:
    """A query that hardly ever runs is not printed."""
    assert find({"models.py": MODELS, **QUIET[name]}, "n-plus-one") == []


@pytest.mark.parametrize("name", LOUD)
def test_loud(find, name: str) -> None:
    """A query that runs in every turn is printed."""
    files = {"models.py": MODELS, "views.py": LOUD[name], "manage.py": "from views import fill\nfill()\n"}
    assert len(find(files, "n-plus-one")) == 1
