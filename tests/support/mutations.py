"""What the fuzzers share: damaged content, a budget of examples, and what may come out of a parser.

``pytest tests/fuzz --hypothesis-profile=long`` takes a hundred times as many examples. They are the same each time.
"""

import datetime

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from galmorph.errors import CannotContinue, GalmorphError

FACTOR = max(1, settings.default.max_examples // 100)
MOST_SECONDS = 20
# Values that cards, cells and metadata do not expect.
ODD = ("NaN", "1E400", "-1", "0", "T", "'x'", "'", "9" * 20, "1.5", "-2880", "&", "1D3", "+", "null", "true", "[]")
ODD += ("{}", "[1,2]", '""', "\x1b[0m", "\xb2", "-inf", "1e-320", "", "'\x00'", "9" * 400)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES |= st.sampled_from([[], {}, [1], {"a": 1}, -1, 0, 1e308, 10**400, "9" * 50, [[[]]]])


def fuzzed(n, **strategies):
    """Decorate a test of `n` seeded examples, none of which may take longer than `MOST_SECONDS`."""

    def decorate(test):
        budget = settings(
            max_examples=n * FACTOR,
            deadline=datetime.timedelta(seconds=MOST_SECONDS),
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        return seed(17)(budget(given(**strategies)(test)))

    return decorate


def tried(call, expected=GalmorphError):
    """Return what a call gives and None, or None and the error that was to be expected: with a code and in one line."""
    try:
        return call(), None
    except expected as error:
        caught = error
    assert getattr(caught, "exit_code", 2) in (GalmorphError.exit_code, CannotContinue.exit_code)
    assert str(caught)
    return None, caught


@st.composite
def mutated(draw, content, odd=ODD, card=80):
    """Return bytes with some flipped, cut out, doubled or replaced, or another word, number or value of a card."""
    body = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(body) - 1)))
        match draw(st.integers(0, 6)):
            case 0 if body:
                body[at] ^= draw(st.integers(1, 255))
            case 1:
                del body[at : at + draw(st.sampled_from([1, 80, 2880, len(body)]))]
            case 2:
                body[at:at] = body[at : at + draw(st.sampled_from([1, 80, 2880]))]
            case 3:
                body[at : at + 4] = draw(st.binary(max_size=8))
            case 4:
                start = at // card * card
                body[start + 8 : start + card] = f"= {draw(st.sampled_from(odd)):>20}".encode().ljust(card - 8)[
                    : card - 8
                ]
            case _:
                start = at
                while start < len(body) and not chr(body[start]).isalnum():
                    start += 1
                end = start
                while end < len(body) and chr(body[end]).isalnum():
                    end += 1
                body[start:end] = draw(st.sampled_from(odd)).encode()
    return bytes(body)


@st.composite
def mutated_json(draw, document):
    """Return a document of JSON with some values, at any depth, replaced, taken away or put inside another."""

    def places(value, path=()):
        yield path
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            yield from places(inner, (*path, key))

    def changed(value, path, new):
        if not path:
            return new(value)
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[path[0]] = changed(copy[path[0]], path[1:], new)
        return copy

    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(document))))
        value = draw(VALUES)
        how = draw(st.integers(0, 2))
        new = (lambda _, v=value: v, lambda old: [old], lambda old: {"a": old})[how]
        document = changed(document, path, new)
    return document
