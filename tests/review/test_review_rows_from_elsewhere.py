"""n-plus-one on rows whose query is out of sight: what may have been loaded along is no likely finding."""

from __future__ import annotations

import pytest

MODELS = """
    from django.db import models

    class OwnManyToMany(models.ManyToManyField):
        pass

    class Tag(models.Model):
        name = models.CharField(max_length=80)

    class Author(models.Model):
        name = models.CharField(max_length=80)

        @property
        def drafts(self):
            return self.books.order_by("title")

    class Book(models.Model):
        author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
        tags = OwnManyToMany(Tag)

        def save(self, *args, **kwargs):
            print(self.author.name)
            super().save(*args, **kwargs)
"""

QUIET = {
    "relations of rows that may have been prefetched": """
        from django.db import models
        from models import Book, OwnManyToMany

        class Shelf(models.Model):
            books = OwnManyToMany(Book)

            def tags(self):
                return [list(book.tags.all()) for book in self.books.all()]

            def authors(self):
                return [book.author.name for book in self.books.all()]

        def view():
            return [s.tags() for s in Shelf.objects.prefetch_related("books__tags", "books__author")]
    """,
    "loaded along by a query of rows that are not known": """
        from models import Author
        def names(author: Author):
            return [list(book.tags.all()) for book in author.books.all()]
        class Exporter:
            def view(self):
                return [names(a) for a in self.shop.authors.prefetch_related("books", "books__tags")]
    """,
    "a many-to-many field class of the program": """
        from models import Book
        def view():
            for book in Book.objects.prefetch_related("tags"):
                print(list(book.tags.all()))
    """,
    "rows put in place of a property": """
        from django.db.models import Prefetch
        from models import Author, Book
        def view():
            for author in Author.objects.prefetch_related(Prefetch("books", Book.objects.all(), to_attr="drafts")):
                print(list(author.drafts))
    """,
    "a relation that was just assigned": """
        from models import Author, Book
        def view(author: Author):
            for book in Book.objects.filter(title="x"):
                book.author = author
                print(book.author.name)
    """,
    "a transaction for each turn": """
        from django.db import transaction
        from models import Author, Book
        def view():
            for key in Author.objects.values_list("pk", flat=True):
                with transaction.atomic():
                    author = Author.objects.get(pk=key)
                    print(author.name)
    """,
}

LOUD = {
    "a model looked up by its name": """
        from django.apps import apps
        def view():
            Book = apps.get_model("models", "Book")
            for book in Book.objects.all():
                print(list(book.tags.all()))
    """,
    "a model looked up by its name, through a helper": """
        from loading import get_model
        Book = get_model("models", "Book")
        def view():
            for book in Book.objects.all():
                print(list(book.tags.all()))
    """,
    "a many-to-many field class of the program": """
        from models import Book
        def view():
            for book in Book.objects.all():
                print(list(book.tags.all()))
    """,
    "another relation of rows that may have been prefetched": """
        from models import Author, Book
        def titles(author: Author):
            return [list(book.tags.all()) for book in author.books.all()]
        def view():
            list(Book.objects.prefetch_related("tags"))
            return [titles(a) for a in Author.objects.prefetch_related("books")]
    """,
    "narrowed anew in each turn": """
        from models import Author
        def view(authors: list[Author]):
            for author in Author.objects.prefetch_related("books"):
                print(author.books.filter(title="x").first())
    """,
    "one transaction around all turns": """
        from django.db import transaction
        from models import Author, Book
        def view():
            with transaction.atomic():
                for key in Author.objects.values_list("pk", flat=True):
                    print(Author.objects.get(pk=key))
    """,
}


@pytest.mark.parametrize("name", QUIET)
def test_quiet(find, name: str) -> None:
    """What was, or may have been, loaded along with the rows is not printed."""
    assert find({"models.py": MODELS, "views.py": QUIET[name]}, "n-plus-one") == []


@pytest.mark.parametrize("name", LOUD)
def test_loud(find, name: str) -> None:
    """A query that is sure to run in each turn is printed."""
    loading = (
        "from django.apps import apps\n\ndef get_model(app, name):\n    return apps.get_model(app, name)\n"
    )
    found = find({"models.py": MODELS, "loading.py": loading, "views.py": LOUD[name]}, "n-plus-one")
    assert [f.location.file for f in found] == ["views.py"]
