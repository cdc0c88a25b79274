"""Products and their stock."""

from collections.abc import Collection, Sequence

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shop.errors import NotFound, OutOfStock
from shop.models import Line, Product
from shop.schemas import NewLine

from .database import sessions


async def list_products(after: int | None, limit: int) -> Sequence[Product]:
    """Products with an id above `after`, by id."""
    query = select(Product).order_by(Product.id).limit(limit)
    if after is not None:
        query = query.where(Product.id > after)
    async with sessions() as session:
        return (await session.scalars(query)).all()


async def get_product(product_id: int) -> Product:
    """One product."""
    async with sessions() as session:
        product = await session.get(Product, product_id)
        if product is None:
            raise NotFound("no such product")
        return product


async def product_names(session: AsyncSession, product_ids: Collection[int]) -> dict[int, str]:
    """The names of the products, by id."""
    rows = await session.execute(select(Product.id, Product.name).where(Product.id.in_(product_ids)))
    return {row.id: row.name for row in rows}


async def restock(product_id: int, quantity: int) -> Product:
    """Put pieces that arrived into stock."""
    async with sessions.begin() as session:
        product: Product | None = await session.scalar(
            update(Product)
            .where(Product.id == product_id)
            .values(stock=Product.stock + quantity)
            .returning(Product)
        )
        if product is None:
            raise NotFound("no such product")
        return product


async def reserve(session: AsyncSession, lines: Collection[NewLine]) -> Sequence[Product]:
    """Take the ordered pieces out of stock, or none of them if one product has too few."""
    wanted = {line.product_id: line.quantity for line in lines}
    query = select(Product).where(Product.id.in_(wanted)).order_by(Product.id)
    products = (await session.scalars(query)).all()
    if len(products) < len(wanted):
        raise NotFound("no such product")
    for product in products:
        if product.stock < wanted[product.id]:
            raise OutOfStock(f"too few of {product.name} are left")
        product.stock -= wanted[product.id]
    return products


async def give_back(session: AsyncSession, order_id: int) -> None:
    """Put the pieces of an order back into stock."""
    lines = await session.scalars(select(Line).where(Line.order_id == order_id))
    returned = {line.product_id: line.quantity for line in lines}
    products = await session.scalars(
        select(Product).where(Product.id.in_(returned)).order_by(Product.id).with_for_update()
    )
    for product in products:
        product.stock += returned[product.id]
