"""Products and their stock."""

from collections.abc import Collection, Sequence

from sqlalchemy import select, update

from mainstay.patterns import Transaction
from shop.errors import NotFound, OutOfStock
from shop.models import Line, Product
from shop.schemas import NewLine

from .database import db, products


async def list_products(after: int | None, limit: int) -> Sequence[Product]:
    """Products with an id above `after`, by id."""
    later = [] if after is None else [Product.id > after]
    async with db.transaction() as tx:
        page = await products.page(tx, *later, order_by=Product.id, limit=limit)
        return page.items


async def get_product(product_id: int) -> Product:
    """One product."""
    async with db.transaction() as tx:
        return await products.get(tx, product_id)


async def restock(product_id: int, quantity: int) -> Product:
    """Put pieces that arrived into stock."""
    async with db.transaction() as tx:
        product: Product | None = await tx.scalar(
            update(Product)
            .where(Product.id == product_id)
            .values(stock=Product.stock + quantity)
            .returning(Product)
        )
        if product is None:
            raise NotFound("no such product")
        return product


async def reserve(tx: Transaction, lines: Collection[NewLine]) -> Sequence[Product]:
    """Take the ordered pieces out of stock, or none of them if one product has too few."""
    wanted = {line.product_id: line.quantity for line in lines}
    reserved = await products.lock_all(tx, wanted)
    for product in reserved:
        if product.stock < wanted[product.id]:
            raise OutOfStock(f"too few of {product.name} are left")
        product.stock -= wanted[product.id]
    return reserved


async def give_back(tx: Transaction, order_id: int) -> None:
    """Put the pieces of an order back into stock."""
    lines = await tx.scalars(select(Line).where(Line.order_id == order_id))
    returned = {line.product_id: line.quantity for line in lines}
    for product in await products.lock_all(tx, returned):
        product.stock += returned[product.id]
