"""check-then-act on a row of a model whose methods are written in an abstract one."""

from __future__ import annotations

TEXT = """
    from django.db import models

    class AbstractStock(models.Model):
        left = models.IntegerField()

        class Meta:
            abstract = True

        def take(self, number):
            if self.left < number:
                raise ValueError
            self.left -= number
            self.save()

    class Stock(AbstractStock):
        pass

    def buy(request, key):
        stock = Stock.objects.get(pk=key)
        stock.take(2)
"""


def test_a_method_of_the_abstract_model_acts_on_the_derived_row(find) -> None:
    """The read names the derived model, the write the abstract one: they are one row all the same."""
    assert [f.subject for f in find(TEXT, "check-then-act")] == ["buy"]


def test_quiet_under_a_lock(find) -> None:
    """A row that is locked when it is read is no finding."""
    text = TEXT.replace("Stock.objects.get", "Stock.objects.select_for_update().get")
    assert find(text, "check-then-act") == []
