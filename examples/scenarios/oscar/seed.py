"""Fill the shop: a product of which one is left, one with plenty, a voucher for one use, two customers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from oscar.core.loading import get_model  # noqa: E402

Product, ProductClass, Category, ProductCategory = (
    get_model("catalogue", name) for name in ("Product", "ProductClass", "Category", "ProductCategory")
)
Partner, StockRecord = (get_model("partner", name) for name in ("Partner", "StockRecord"))
Benefit, Condition, Offer, Range = (
    get_model("offer", name) for name in ("Benefit", "Condition", "ConditionalOffer", "Range")
)
Voucher = get_model("voucher", "Voucher")

partner = Partner.objects.create(name="Press", code="press")
books = ProductClass.objects.create(name="E-book", requires_shipping=False, track_stock=True)
category = Category.add_root(name="Books", slug="books")


def product(title: str, stock: int) -> None:
    made = Product.objects.create(title=title, product_class=books)
    ProductCategory.objects.create(product=made, category=category)
    StockRecord.objects.create(
        product=made, partner=partner, partner_sku=title, price=Decimal("20.00"), num_in_stock=stock
    )


product("The last copy", 1)
product("Plenty of these", 1000)
for number in range(3):
    product(f"Another book {number}", 10)

everything = Range.objects.create(name="Everything", includes_all_products=True)
now = datetime.now(UTC)
for code, usage in (("ONCE", Voucher.SINGLE_USE), ("OFTEN", Voucher.MULTI_USE)):
    voucher = Voucher.objects.create(
        name=code,
        code=code,
        usage=usage,
        start_datetime=now - timedelta(days=1),
        end_datetime=now + timedelta(days=3650),
    )
    voucher.offers.add(
        Offer.objects.create(
            name=f"Offer of {code}",
            offer_type=Offer.VOUCHER,
            condition=Condition.objects.create(range=everything, type=Condition.COUNT, value=1),
            benefit=Benefit.objects.create(range=everything, type=Benefit.PERCENTAGE, value=50),
        )
    )

for name in ("alice", "bob"):
    get_user_model().objects.create_user(name, f"{name}@example.org", "correct horse battery")
