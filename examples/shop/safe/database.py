"""The database: one pool of connections, with a time limit on every statement, lock and transaction."""

from mainstay.patterns import Database, Repository
from shop.models import Customer, Order, Product
from shop.settings import settings

db = Database(settings.database_url)

customers = Repository(Customer)
orders = Repository(Order)
products = Repository(Product)
