"""`Messages`: the engine and all that stands on it, in one object.

Each layer is a module of its own beside this package and is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, Never, ParamSpec, TypeVar, overload

from mainstay.patterns.database import Database
from mainstay.patterns.errors import Misuse
from mainstay.patterns.messages.engine import Engine

if TYPE_CHECKING:
    from mainstay.patterns.brokers import Broker
    from mainstay.patterns.events.event import Event
    from mainstay.patterns.events.subscriptions import Subscriptions
    from mainstay.patterns.jobs import Job, JobStatus
    from mainstay.patterns.jobs.job import Declaration
    from mainstay.patterns.messages.engine import Publishable
    from mainstay.patterns.messages.handler import Retry
    from mainstay.patterns.messages.message import NewMessage
    from mainstay.patterns.saga.runner import Upkeep
    from mainstay.patterns.saga.saga import Saga
    from mainstay.patterns.schedules.declaration import Declarations

Takes = ParamSpec("Takes")
Returned = TypeVar("Returned")
Function = TypeVar("Function", bound=Callable[..., Any])
AnyJob = TypeVar("AnyJob", bound="Job[..., Any, Any, Any]")
AnySaga = TypeVar("AnySaga", bound="Saga")


class Messages(Engine):
    """The messages of one database: events, jobs, schedules and sagas.

    Args:
        database: where they live. Its tables come from ``mainstay db upgrade`` (`patterns.schema`).
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        database.messages = self
        self._schedules: Declarations | None = None
        self._subscriptions: Subscriptions | None = None
        self.sagas: Upkeep | None = None

    # -------------------------------------------------------------------------------------------- events

    async def publish(self, connection: Any, *items: NewMessage | Publishable | Event) -> list[int | None]:
        """Publish events or messages in the transaction that `connection` is in: they exist if and when it commits.

        An event comes to one message for each subscriber that the database knows of, whichever process runs it; all by
        one INSERT. One without subscribers is kept for the first that comes (`Event`, `keep`).

        Args:
            connection: a `Transaction`, `AsyncSession`, `AsyncConnection`, `psycopg.AsyncConnection` or asyncpg's.

        Returns:
            The id of each message, in order; None for one whose unique key is taken.

        Raises:
            Unserializable: a payload cannot be written as JSON.
            PayloadTooLarge: a payload is longer than 1 MiB.
            Misuse: there are events as well as messages, and no transaction that would hold them together.
        """
        if not any(map(_are_events, set(map(type, items)))):
            return await super().publish(connection, *items)  # type: ignore[arg-type]
        from mainstay.patterns.events.publishing import publish
        from mainstay.patterns.messages.connections import check_together

        ids: list[int | None] = []
        if not all(map(_is_event, items)):
            await check_together(connection)
        for events, group in groupby(items, _is_event):
            if events:
                ids += await publish(connection, list(group))  # type: ignore[arg-type]
            else:
                ids += await super().publish(connection, *group)  # type: ignore[arg-type]
        return ids

    def publish_sync(self, connection: Any, *items: NewMessage | Publishable | Event) -> list[int | None]:
        """As `publish`, for a `Session`, `Connection`, `psycopg.Connection`, psycopg2 or Django connection."""
        if not any(map(_are_events, set(map(type, items)))):
            return super().publish_sync(connection, *items)  # type: ignore[arg-type]
        from mainstay.patterns.events.publishing import publish_sync
        from mainstay.patterns.messages.connections import check_together_sync

        ids: list[int | None] = []
        if not all(map(_is_event, items)):
            check_together_sync(connection)
        for events, group in groupby(items, _is_event):
            if events:
                ids += publish_sync(connection, list(group))  # type: ignore[arg-type]
            else:
                ids += super().publish_sync(connection, *group)  # type: ignore[arg-type]
        return ids

    def subscribe(
        self,
        *events: type[Event],
        name: str | None = None,
        queue: str | None = None,
        retry: Retry | None = None,
        timeout: float = 300.0,
    ) -> Callable[[Function], Function]:
        """Have a function called with every event of these classes: ``@messages.subscribe(OrderPlaced)``.

        Its first argument is the event. A parameter annotated `Transaction` gets the worker's transaction, in which
        the event is completed too; one annotated `Message` gets the message. Plain functions run in a thread. Each
        subscriber has its own copy of each event: what one does or fails to do is nothing to the others.

        Events with the same key come one after the other, as they were published. One that fails holds up those of
        its key until its last attempt, and then they go on without it. Who would rather stop there never gives up:
        ``retry=Retry(attempts=1_000_000)``.

        Args:
            name: what its messages wait under; default: the function's module and name. Never change it.
            queue: default: one of its own, with its name.
            retry: after a failure; default: `Retry()`.
            timeout: seconds that one attempt may take.

        Raises:
            Misuse: the name is taken or not stable, or the function cannot be called with the event.
        """

        def register(function: Function) -> Function:
            from mainstay.patterns.events.subscriber import subscribe
            from mainstay.patterns.messages.handler import Retry

            subscribe(
                self.subscriptions(),
                events,
                function,
                name=name,
                queue=queue,
                retry=retry or Retry(),
                timeout=timeout,
            )
            return function

        return register

    async def declare(self) -> list[dict[str, Any]]:
        """Make the subscribers and relays of this code known: once a deploy, before the services that publish.

        Workers do the same as they start. But of an event that is published before, only the subscribers that are known
        as its first one is get a copy: whoever registers later begins with what is published from then on. Any number
        of processes may call this at once, and again.

        Returns:
            The subscriptions of this code, as `events.control.list_subscriptions` has them. One that is still
            ``opening`` gets what is published all the same, from the first worker that runs.

        Raises:
            SchemaBehind: the tables are missing or older than this code.
            MissingUpcaster: an older version of an event could not be read.
        """
        return await self.subscriptions().declare()

    def subscriptions(self) -> Subscriptions:
        """The subscriptions of this code: ``messages.subscriptions().retire_after = 86400`` (seconds)."""
        from mainstay.patterns.events.subscriptions import Subscriptions

        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self)
        return self._subscriptions

    def relay(
        self,
        *,
        to: Broker,
        events: Sequence[type[Event]] | None = None,
        name: str = "relay",
        source: str | None = None,
        queue: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Send events on to a broker as CloudEvents: ``messages.relay(to=broker("nats://…", "shop"), source="/shop")``.

        An event is done when the broker has confirmed it. Order per key is kept, and its id is the same in every
        attempt, so that who receives it can tell duplicates. While the broker is away events wait, and no attempt
        counts; one that it refuses is retried and in the end dead. What came from a broker is never relayed.

        Args:
            events: default: all, of whichever code.
            name: the subscriber's; a second relay needs one of its own. Never change it.
            source: the CloudEvents source, a URI reference such as ``/shop``; default: a URN of this database.
            queue: default: one with the relay's name.
            retry: after a refusal; default: `Retry()`.

        Raises:
            Misuse: the name is taken.
        """
        from mainstay.patterns.events.relay import register

        register(self, to, events, name=name, source=source, queue=queue, retry=retry)

    def receive(self, broker: Broker, *, consumer: str, events: Sequence[type[Event]]) -> None:
        """Take events from a broker, each once, for the subscribers of this service, while a worker runs.

        The CloudEvents type is the event's name, with or without ``.v2`` behind it for the version. Other types are
        passed over. What is no CloudEvent, or none that can be stored, is kept as a dead message of kind `consumer`.

        Args:
            consumer: the durable place in the broker's topic, and the inbox's. Never change it.

        Raises:
            Misuse: there are no events to receive.
        """
        from mainstay.patterns.events.receiving import register

        register(self, broker, consumer, events)

    # -------------------------------------------------------------------------------- jobs and schedules

    def job(
        self,
        *function: Never,
        name: str | None = None,
        queue: str = "default",
        retry: Retry | None = None,
        timeout: float = 300.0,
        keep: float = 0.0,
        aliases: Sequence[str] = (),
    ) -> Declaration:
        """Make a function a job: ``@messages.job(queue="mail")``.

        Its arguments are parsed by its annotations. A parameter annotated `Transaction` gets the worker's transaction,
        in which the job is completed too; one annotated `Message` gets the message. Put them first, so that type
        checkers know that `enqueue` does not take them. Plain functions run in a thread.

        Args:
            name: the kind of its messages; default: the function's module and name.
            queue: where it is enqueued by default.
            retry: after a failure; default: `Retry()`.
            timeout: seconds that one attempt may take.
            keep: seconds for which its result is kept; 0: not at all.
            aliases: names that it had before: what was enqueued under these is run by it too.

        Raises:
            Misuse: its name is taken or not stable, or its parameters cannot be told from a payload.
        """
        from mainstay.patterns.jobs.job import declare

        if function:
            raise Misuse("write @messages.job() with its parentheses")
        return declare(self, name=name, queue=queue, retry=retry, timeout=timeout, keep=keep, aliases=aliases)

    async def enqueue(
        self, connection: Any, job: Job[..., Takes, Any, Any], /, *args: Takes.args, **kwargs: Takes.kwargs
    ) -> int | None:
        """Have `job` run with these arguments, if and when the transaction of `connection` commits.

        Args:
            connection: as `publish` takes it.
            job: a job, or ``job.options(delay=60)``.

        Returns:
            The number of the job; None where its unique key is taken.

        Raises:
            BadArguments: the function does not take these arguments.
            Unserializable: one of them cannot be written as JSON.
            PayloadTooLarge: they are too long.
        """
        return (await self.publish(connection, job.message(*args, **kwargs)))[0]

    async def enqueue_many(
        self, connection: Any, job: Job[..., Any, Any, Any], many: Iterable[Mapping[str, Any]], /
    ) -> list[int | None]:
        """As `enqueue`, for each of `many` (arguments by name), by one statement; their numbers in order."""
        return await self.publish(connection, *job.messages(many))

    def enqueue_sync(
        self, connection: Any, job: Job[..., Takes, Any, Any], /, *args: Takes.args, **kwargs: Takes.kwargs
    ) -> int | None:
        """As `enqueue`, for a connection as `publish_sync` takes it."""
        return self.publish_sync(connection, job.message(*args, **kwargs))[0]

    def enqueue_many_sync(
        self, connection: Any, job: Job[..., Any, Any, Any], many: Iterable[Mapping[str, Any]], /
    ) -> list[int | None]:
        """As `enqueue_many`, for a connection as `publish_sync` takes it."""
        return self.publish_sync(connection, *job.messages(many))

    async def status(self, id: int) -> JobStatus | None:
        """State, progress, result and errors of a job; None where it is not, or no longer, there."""
        from mainstay.patterns.jobs.result import status

        return await status(self.database, id)

    @overload
    async def result(self, id: int, *, timeout: float = 30.0) -> Any: ...  # noqa: ASYNC109

    @overload
    async def result(
        self,
        id: int,
        job: Job[..., Any, Any, Returned],
        *,
        timeout: float = 30.0,  # noqa: ASYNC109
    ) -> Returned: ...

    async def result(
        self,
        id: int,
        job: Job[..., Any, Any, Any] | None = None,
        *,
        timeout: float = 30.0,  # noqa: ASYNC109
    ) -> Any:
        """Wait for the result of a job that keeps it.

        Args:
            id: what `enqueue` returned, in a transaction that has committed.
            job: types the result by the function's annotation; without it, it is what JSON knows.
            timeout: seconds to wait.

        Raises:
            JobFailed: it has ended without a result.
            NoResult: there is no such job, or no longer.
            TimeoutError: it has not ended in time; it goes on.
            OutsideCallInTransaction: a transaction is open here, which would be held all the while.
        """
        from mainstay.patterns.jobs.result import result

        stored = await result(self.database, id, timeout)
        return stored if job is None else job.load_result(stored)

    def schedule(
        self,
        cron: str | None = None,
        *,
        every: int | None = None,
        zone: str = "UTC",
        missed: Literal["skip", "once", "all"] = "once",
        grace: float = 60.0,
        most: int = 100,
        overlap: bool = False,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Callable[[AnyJob], AnyJob]:
        """Run a job by the clock: ``@messages.schedule("0 9 * * 1-5", zone="Europe/Berlin")`` above ``@messages.job``.

        The job finds its tick in ``message.headers["scheduled_for"]``, and in a parameter ``scheduled_for`` if it has
        one. Exactly one job is enqueued a tick, however many workers there are; `patterns/schedules/schedule.md` tells
        what daylight saving time, deploys and outages do.

        Args:
            cron: five fields, as crontab has them: minute, hour, day of the month, month, day of the week.
            every: instead: every so many seconds, at multiples counted from 1970-01-01 00:00 UTC.
            zone: the time zone of `cron`, by its IANA name.
            missed: what happens to ticks while no worker ran: ``once`` runs the newest of them, ``skip`` runs none that
                is older than `grace`, ``all`` runs each, oldest first.
            grace: seconds, see `missed`.
            most: with ``all``, run only so many, the newest.
            overlap: whether a tick's job may run beside an earlier one. If not, a tick is passed over while the job
                of an earlier one has not ended (with ``all``, it waits for it).
            name: default: that of the job. Needed where a job has several schedules.
            arguments: of the job, by name.

        Raises:
            Misuse: the expression, the zone or another argument is wrong, or the name is taken.
        """
        from mainstay.patterns.schedules.declaration import Declarations

        if self._schedules is None:
            self._schedules = Declarations(self)
        return self._schedules.declare(
            cron=cron,
            every=every,
            zone=zone,
            missed=missed,
            grace=grace,
            most=most,
            overlap=overlap,
            name=name,
            arguments=arguments or {},
        )

    # --------------------------------------------------------------------------------------------- sagas

    @overload
    def saga(self, cls: type[AnySaga], /) -> type[AnySaga]: ...

    @overload
    def saga(
        self,
        cls: None = None,
        /,
        *,
        name: str | None = ...,
        queue: str = ...,
        key: str | None = ...,
        lock: str | None = ...,
        timeout: float | None = ...,
        keep: float = ...,
    ) -> Callable[[type[AnySaga]], type[AnySaga]]: ...

    def saga(
        self,
        cls: type[AnySaga] | None = None,
        /,
        *,
        name: str | None = None,
        queue: str = "default",
        key: str | None = None,
        lock: str | None = None,
        timeout: float | None = None,
        keep: float = 30 * 86400.0,
    ) -> Any:
        """Register a class of sagas: ``@messages.saga`` or ``@messages.saga(key="{order_id}")`` above it.

        Args:
            name: default: the class's name. Never change it.
            queue: where the messages of its steps wait.
            key: of the fields, such as ``"{order_id}"``: a second saga of this class with the same key is not started,
                unless the first was compensated, or is no longer kept.
            lock: of the fields, such as ``"order:{order_id}"``: of all sagas with the same lock, whatever their class,
                one is at work at a time, in the order of their starts.
            timeout: seconds from the start after which it goes back, if its pivot is not passed by then.
            keep: seconds for which it is kept after its end.

        Raises:
            Misuse: its steps do not make a saga, or the name is taken.
        """
        from mainstay.patterns.saga.registration import register

        def declare(cls: type[AnySaga]) -> type[AnySaga]:
            register(self, cls, name=name, queue=queue, key=key, lock=lock, timeout=timeout, keep=keep)
            return cls

        return declare if cls is None else declare(cls)


def _is_event(item: object) -> bool:
    return _are_events(type(item))


def _are_events(kind: type) -> bool:
    """Told without importing what only events need."""
    return hasattr(kind, "event_upcasters")
