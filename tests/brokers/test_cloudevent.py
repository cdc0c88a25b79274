"""CloudEvents: what is valid, and how it reads from each protocol's form."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.patterns.brokers import BadEvent, CloudEvent
from mainstay.patterns.brokers.clients import nats, redis
from mainstay.patterns.brokers.cloudevent import from_attributes, from_json, read

GOOD: dict[str, Any] = {"id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"id": ""}, "id must not be empty"),
        ({"source": ""}, "source must not be empty"),
        ({"source": "no spaces"}, "URI reference"),
        ({"source": "/100%"}, "URI reference"),
        ({"type": ""}, "type must not be empty"),
        ({"type": "a\nb"}, r"U\+000A"),
        ({"subject": ""}, "subject must not be empty"),
        ({"subject": "\ufffe"}, r"U\+FFFE"),
        ({"subject": "\ud800"}, r"U\+D800"),
        ({"dataschema": "/relative"}, "absolute URI"),
        ({"datacontenttype": "json"}, "media type"),
        ({"time": datetime(2026, 1, 1)}, "time zone"),
        ({"time": datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1)))}, "whole minutes"),
        ({"data": "text"}, "bytes"),
        ({"extensions": {"Camel": "x"}}, "a-z and 0-9"),
        ({"extensions": {"subject": "x"}}, "core attribute"),
        ({"extensions": {"number": 1}}, "number is a string"),
        ({"extensions": {"partitionkey": ""}}, "must not be empty"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    """One sentence, with the attribute."""
    with pytest.raises(BadEvent, match=says):
        CloudEvent(**(GOOD | wrong))


def test_an_event_does_not_change_after_it_is_made() -> None:
    """Its extensions are a copy."""
    extensions = {"a": "1"}
    event = CloudEvent(**GOOD, extensions=extensions)
    extensions["a"] = "2"
    assert event.extensions == {"a": "1"}


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn"))).filter(bool)
EVENTS = st.builds(
    CloudEvent,
    id=TEXT,
    source=st.from_regex(r"[a-z0-9/:._-]+", fullmatch=True),
    type=TEXT,
    time=st.none()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=30))])),
    subject=st.none() | TEXT,
    datacontenttype=st.none() | st.just("text/plain; charset=utf-8"),
    data=st.none() | st.binary(),
    extensions=st.dictionaries(st.from_regex(r"x[a-z0-9]{1,10}", fullmatch=True), TEXT, max_size=3),
)


@given(EVENTS)
def test_attributes_go_round(event: CloudEvent) -> None:
    """An event read from its own attributes, NATS headers or Redis fields is the same event."""
    assert from_attributes(event.attributes(), event.data) == event
    headers = nats.encode(event)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert nats.decode(headers, event.data or b"") == event
    fields = redis.encode(event)
    assert redis.decode({k: v for k, v in fields.items() if k != "data"}, fields["data"]) == event


def test_nats_headers_as_the_binding_says() -> None:
    """The binding's own example of percent-encoding; quoted values are read, wrong UTF-8 is not."""
    encoded = nats.encode(CloudEvent(**GOOD, subject="Euro € 😀"))
    assert encoded["ce-subject"] == "Euro%20%E2%82%AC%20%F0%9F%98%80"
    plain = {"CE-SpecVersion": "1.0", "Ce-Id": "%31", "ce-source": "/s", "ce-type": '"a \\"b\\""'}
    assert nats.decode(plain, b"") == CloudEvent(id="1", source="/s", type='a "b"')
    with pytest.raises(BadEvent, match="UTF-8"):
        nats.decode(plain | {"ce-subject": "%C0%A0"}, b"")


def test_structured_events_are_read() -> None:
    """In JSON, with data of JSON, of text and of bytes."""
    text = {"specversion": "1.0", **GOOD, "time": "2026-11-20t12:00:00.5z", "count": 3, "flag": True}

    def from_text(**more: Any) -> CloudEvent:
        return read({}, "application/cloudevents+json; charset=utf-8", json.dumps(text | more).encode())

    event = from_text(data={"a": "é"})
    assert (event.data, event.datacontenttype) == ('{"a":"é"}'.encode(), "application/json")
    assert event.time == datetime(2026, 11, 20, 12, 0, 0, 500_000, tzinfo=UTC)
    assert event.extensions == {"count": "3", "flag": "true"}
    assert from_text(data="hello", datacontenttype="text/plain").data == b"hello"
    assert from_text(data="hello").data == b'"hello"'
    assert from_text(data_base64="AAE=").data == b"\x00\x01"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "no JSON"),
        (b"[]", "not list"),
        (b"[" * 100_000, "no JSON"),
        (b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": "\\ud800"}', "surrogate"),
        (b'{"specversion": "1.0", "id": "1", "source": "/s"}', "no type"),
        (b'{"specversion": "0.3", "id": "1", "source": "/s", "type": "t"}', "version"),
        (b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "x": [1]}', "x is a string"),
        (b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data_base64": "*"}', "Base64"),
        (
            b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-02-30T00:00:00Z"}',
            "3339",
        ),
        (b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "2026-02-03"}', "3339"),
    ],
)
def test_what_is_no_event_is_said(text: bytes, says: str) -> None:
    """A message that is none names what is wrong with it."""
    with pytest.raises(BadEvent, match=says):
        from_json(text)


@given(st.binary())
def test_any_bytes_are_an_event_or_a_bad_event(text: bytes) -> None:
    """No other error, whatever arrives."""
    with suppress(BadEvent):
        from_json(text)
