"""The shapes of requests and replies. Money is whole cents."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Id = Annotated[int, Field(ge=1, le=2_147_483_647)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Email = Annotated[str, Field(max_length=320, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Quantity = Annotated[int, Field(ge=1, le=1000)]


class Reply(BaseModel):
    """Can be made from a row."""

    model_config = ConfigDict(from_attributes=True)


class NewCustomer(BaseModel):
    email: Email
    name: Name


class CustomerView(Reply):
    id: int
    email: str
    name: str


class ProductView(Reply):
    id: int
    sku: str
    name: str
    price_cents: int
    stock: int


class Restock(BaseModel):
    quantity: Quantity


class NewLine(BaseModel):
    product_id: Id
    quantity: Quantity


class NewOrder(BaseModel):
    customer_id: Id
    lines: Annotated[list[NewLine], Field(min_length=1, max_length=20)]

    @model_validator(mode="after")
    def _each_product_once(self) -> Self:
        if len({line.product_id for line in self.lines}) < len(self.lines):
            raise ValueError("each product may be ordered in one line only")
        return self


class LineView(BaseModel):
    product: str
    quantity: int
    price_cents: int


class OrderView(BaseModel):
    id: int
    customer: str
    status: str
    total_cents: int
    lines: list[LineView]


class OrderStatus(Reply):
    id: int
    status: str
    total_cents: int


class PaymentView(Reply):
    order_id: int
    amount_cents: int
    charge_id: str


class ShipmentView(Reply):
    order_id: int
    tracking_number: str


class Tracking(BaseModel):
    tracking_number: str
    state: str


class ProductSales(BaseModel):
    product: str
    quantity: int
    revenue_cents: int
