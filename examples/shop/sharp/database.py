"""The database: one pool of connections, with a time limit on every statement, lock and transaction."""

from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from shop.settings import settings

LIMITS = "-c statement_timeout=5s -c lock_timeout=2s -c idle_in_transaction_session_timeout=10s"

engine = create_async_engine(
    settings.database_url, pool_size=10, max_overflow=0, connect_args={"options": LIMITS}
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
