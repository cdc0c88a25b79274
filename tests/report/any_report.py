"""Reports of any content: strings with control characters, lone surrogates, markup and commands of every format."""

from __future__ import annotations

from hypothesis import strategies as st

from mainstay.architect.findings import (
    Assumption,
    Check,
    Event,
    Finding,
    Location,
    Measurement,
    Outcome,
    Problem,
    Report,
    Severity,
    Step,
    Suppressed,
    Table,
    Verdict,
    Witness,
)

NASTY = st.sampled_from(
    [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[bold red]rich[/bold red]",
        "a\nb\r\nc",
        "::error::100%",
        "\x1b[31mred\x1b[0m",
        "\ud800 \udcff",
        "{{ 1 + 1 }}",
        "\u202eright to left",
        "$1, $99 and ${x}",
        "SELECT a.b, a.c, a.d FROM a WHERE a.b = $1",
    ]
)
TEXT = st.one_of(NASTY, st.text(st.characters(exclude_categories=()), max_size=12))
NUMBER = st.integers(0, 10**6)
LOCATION = st.builds(Location, TEXT, NUMBER, NUMBER, NUMBER, NUMBER)
STEP = st.builds(Step, LOCATION, TEXT, TEXT)
FEW = 3

_json = st.one_of(st.none(), st.booleans(), NUMBER, TEXT)
OUTCOME = st.builds(
    Outcome,
    TEXT,
    st.dictionaries(TEXT, TEXT, max_size=FEW),
    st.dictionaries(TEXT, st.lists(st.dictionaries(TEXT, _json, max_size=FEW), max_size=FEW), max_size=2),
    st.lists(TEXT, max_size=FEW),
    st.lists(TEXT, max_size=FEW),
)
KINDS = ["request", "reply", "statement", "outside", "pause", "resume", "blocked", "unblocked", "another"]
EVENT = st.builds(
    Event,
    actor=st.one_of(st.sampled_from(["alice", "bob", "database"]), TEXT),
    kind=st.sampled_from(KINDS),
    text=TEXT,
    effect=st.sampled_from(["", "read", "write", "begin", "commit", "rollback"]),
    target=TEXT,
    rows=st.one_of(st.none(), NUMBER),
    transaction=st.sampled_from(["", "idle", "open", "failed"]),
    parameters=st.lists(st.one_of(st.none(), TEXT), max_size=2).map(tuple),
    result=TEXT,
    milliseconds=st.floats(0, 1e6),
    connection=st.integers(0, 3),
    marked=st.booleans(),
    location=st.one_of(st.none(), LOCATION),
)
WITNESS = st.builds(
    Witness,
    edge=TEXT,
    kind=st.sampled_from(["schedule", "growth", "trace"]),
    argument=st.lists(TEXT, max_size=FEW),
    scenario=st.dictionaries(TEXT, _json, max_size=FEW),
    command=st.lists(TEXT, max_size=FEW),
    starting_state=st.dictionaries(TEXT, _json, max_size=1),
    schedule=st.dictionaries(TEXT, _json, max_size=1),
    events=st.lists(EVENT, max_size=12),
    observed=st.one_of(st.none(), OUTCOME),
    serial=st.lists(OUTCOME, max_size=2),
    measurements=st.lists(st.builds(Measurement, NUMBER, NUMBER), max_size=FEW),
    checksum=TEXT,
)
FINDING = st.builds(
    Finding,
    edge=st.one_of(st.sampled_from(["check-then-act", "n-plus-one"]), TEXT),
    severity=st.sampled_from(Severity),
    verdict=st.sampled_from(Verdict),
    message=TEXT,
    location=LOCATION,
    path=st.lists(STEP, max_size=FEW).map(tuple),
    remedy=TEXT,
    patterns=st.lists(TEXT, max_size=2).map(tuple),
    witness=st.one_of(st.none(), WITNESS),
    witness_file=TEXT,
    subject=TEXT,
    formula=TEXT,
    fingerprint=st.just("0123456789abcdef"),
)
REPORT = st.builds(
    Report,
    engine=st.one_of(st.just("design"), TEXT),
    findings=st.lists(FINDING, max_size=FEW),
    checks=st.lists(
        st.builds(Check, TEXT, TEXT, st.sampled_from(["cleared", "undecided"]), TEXT), max_size=2
    ),
    problems=st.lists(st.builds(Problem, TEXT, TEXT, NUMBER), max_size=2),
    suppressed=st.lists(
        st.builds(Suppressed, FINDING, TEXT, st.sampled_from(["comment", "baseline", "waiver"])), max_size=2
    ),
    statistics=st.dictionaries(TEXT, st.floats(0, 1e9), max_size=FEW),
    assumptions=st.lists(st.builds(Assumption, TEXT, TEXT, st.floats(0, 1e9), NUMBER), max_size=2),
    tables=st.lists(
        st.builds(
            Table,
            TEXT,
            TEXT,
            st.just(("one", "two")),
            st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
            TEXT,
        ),
        max_size=2,
    ),
    notes=st.lists(st.builds(Problem, TEXT, TEXT, NUMBER), max_size=2),
)
