"""The client's manners: limits, patience, Retry-After, time-outs, redirects, and when it calls a service down."""

import asyncio
import time

import pytest
from standin import StandIn

from galmorph.errors import CannotContinue, GalmorphError
from galmorph.retrieval.addresses import Credentials
from galmorph.retrieval.client import Client, FinalFailure, Limits, PassingFailure, Session, retry_after_s

QUICK = {"rate": 1000.0, "backoff_s": 0.02, "timeout_s": 60.0}
PATH = "/viewer/fits-cutout?ra=10&dec=5&size=8&bands=grz&layer=ls-dr9&pixscale=0.262"


def accept(answer):
    if answer.status != 200:
        raise FinalFailure(f"status {answer.status}")
    return answer.body


def ask(url, *more, n=1, accept=accept, at_most=1 << 20, **limits):
    """Get `n` answers at once; return the bodies and the client."""

    credentials = Credentials()
    if "@" in url:
        url = credentials.take(url, "--base-url")

    async def run():
        async with Client(Limits(**{**QUICK, **limits}), credentials) as client:
            sessions = [Session(client) for _ in range(n)]
            return await asyncio.gather(*(s.get(url, *more, accept=accept, at_most=at_most) for s in sessions)), client

    return asyncio.run(run())


@pytest.fixture
def server():
    with StandIn() as server:
        yield server


def test_one_good_answer(server):
    (body,), client = ask(server.url + PATH)
    assert body.startswith(b"SIMPLE")
    assert (client.requests, client.bytes) == (1, len(body))
    assert server.seen.agents == {next(iter(server.seen.agents))}
    assert "galmorph/" in next(iter(server.seen.agents))
    assert {request.method for request in server.seen.requests} == {"GET"}


def test_requests_in_flight_are_bounded_and_connections_are_kept(server):
    server.latency = 0.03
    ask(server.url + PATH, n=30, workers=3)
    assert 2 <= server.seen.most_in_flight <= 3
    assert server.seen.connections <= 3


def test_rate_is_shared():
    with StandIn() as server:
        start = time.monotonic()
        ask(server.url + PATH, n=25, workers=8, rate=20)
        assert time.monotonic() - start >= 24 / 20
        assert server.seen.most_in_a_second() <= 21


@pytest.mark.parametrize(
    "kind", ["429", "502", "503", "504", "reset", "half", "chunked", "retry-after-seconds", "retry-after-date"]
)
def test_what_passes_is_tried_again(server, kind):
    server.inject(kind, times=2, value=0)
    (body,), client = ask(server.url + PATH)
    assert body.startswith(b"SIMPLE")
    assert client.requests == 3


def test_attempts_are_bounded(server):
    server.inject("503", times=None)
    with pytest.raises(PassingFailure, match="answered 503"):
        ask(server.url + PATH, retries=4)
    assert len(server.seen.requests) == 4


def test_a_failure_may_deserve_fewer_attempts(server):
    def refuse(answer):
        raise PassingFailure("no", attempts=2)

    with pytest.raises(PassingFailure):
        ask(server.url + PATH, retries=5, accept=refuse)
    assert len(server.seen.requests) == 2


def test_a_final_answer_is_not_asked_for_again(server):
    with pytest.raises(FinalFailure, match="status 400"):
        ask(server.url + "/viewer/fits-cutout?dec=5")
    assert len(server.seen.requests) == 1


def test_waits_double_with_jitter(server):
    server.inject("503", times=None)
    with pytest.raises(PassingFailure):
        ask(server.url + PATH, retries=4, backoff_s=0.1)
    waits = [b - a for a, b in zip(server.seen.arrivals, server.seen.arrivals[1:], strict=False)]
    for wait, longest in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert longest / 2 <= wait < longest + 1


@pytest.mark.parametrize("kind", ["retry-after-seconds", "retry-after-date"])
def test_retry_after_holds_all_requests_back(server, kind):
    # The date is cut to whole seconds, and a busy machine loses some of them.
    server.inject(kind, value=4 if kind == "retry-after-date" else 2)
    ask(server.url + PATH, n=8, workers=2)
    first, *others = sorted(server.seen.arrivals)
    late = [moment for moment in others if moment - first > 0.5]
    # Some were on their way before the answer was read; without a wait only the one that is asked again would be late.
    assert len(late) >= 3
    assert min(late) - first >= (0.95 if kind == "retry-after-date" else 1.95)


def test_a_very_long_retry_after_ends_the_run(server):
    server.inject("retry-after-seconds", value=7200)
    with pytest.raises(CannotContinue, match="120 minutes"):
        ask(server.url + PATH)


def test_a_dripping_server_is_given_up(server):
    server.inject("drip", times=None, value=0.05)
    start = time.monotonic()
    with pytest.raises(PassingFailure, match=r"no complete answer .* within 0\.3 s"):
        ask(server.url + PATH, timeout_s=0.3, retries=2)
    assert time.monotonic() - start < 3


def test_waiting_for_a_turn_is_not_a_time_out(server):
    _, client = ask(server.url + PATH, n=4, rate=4, timeout_s=0.6)
    assert client.requests == 4


@pytest.mark.parametrize("kind", ["redirect", "redirect-host"])
def test_redirects_are_followed_and_counted(server, kind):
    server.inject(kind)
    (body,), client = ask(server.url + PATH)
    assert body.startswith(b"SIMPLE")
    assert client.requests == 2


def test_endless_redirects(server):
    server.inject("redirect", times=None)
    with pytest.raises(FinalFailure, match="redirects more than"):
        ask(server.url + PATH)


def test_mirrors_take_turns(server):
    server.inject("503", when=lambda request: request.query.get("mirror") == "1", times=None)
    ask(f"{server.url}{PATH}&mirror=1", f"{server.url}{PATH}&mirror=2")
    assert [request.query["mirror"] for request in server.seen.requests] == ["1", "2"]


def test_a_flood_is_cut_off(server):
    with pytest.raises(FinalFailure, match="more than the 1000 bytes"):
        ask(server.url + PATH, at_most=1000)


def test_nobody_listens():
    with pytest.raises(PassingFailure, match=r"http://127\.0\.0\.1:9"):
        ask("http://127.0.0.1:9/viewer", retries=2)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "127.0.0.1/x", "http://[::1/x"])
def test_an_impossible_address_is_the_users_error(url):
    with pytest.raises(GalmorphError, match="not an address") as caught:
        ask(url)
    assert caught.value.exit_code == 2


def test_a_password_goes_to_the_server_only(server):
    url = server.url.replace("http://", "http://me:secret@")
    seen = []
    ask(url + PATH, accept=lambda answer: seen.append(answer.url))
    assert server.seen.requests[0].headers["Authorization"].startswith("Basic ")
    assert seen == [server.url + PATH]
    server.inject("503", times=None)
    with pytest.raises(PassingFailure) as caught:
        ask(url + PATH, retries=1)
    assert "secret" not in str(caught.value)


def test_a_password_does_not_follow_to_another_host(server):
    server.inject("redirect-host")
    ask(server.url.replace("http://", "http://me:secret@") + PATH)
    first, second = server.seen.requests
    assert "Authorization" in first.headers
    assert "Authorization" not in second.headers


def test_netrc(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(server.url + PATH)
    assert server.seen.requests[0].headers["Authorization"].startswith("Basic ")


def test_the_service_is_alive_if_anything_good_came_since(server):
    async def run(since, control):
        async with Client(Limits(**QUICK)) as client:
            await Session(client).get(server.url + PATH, accept=accept, at_most=1 << 20)
            await client.confirm_alive(client.good_at - since, control)

    async def never(session):
        raise AssertionError

    async def down(session):
        raise PassingFailure("connection refused.")

    asyncio.run(run(1.0, never))
    with pytest.raises(CannotContinue, match=r"down.*connection refused.*run the same command again") as caught:
        asyncio.run(run(-1.0, down))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "wrong", [{"workers": 0}, {"rate": 0}, {"rate": float("inf")}, {"retries": 0}, {"timeout_s": -1}]
)
def test_limits_have_ranges(wrong):
    with pytest.raises(GalmorphError, match=f"{next(iter(wrong))}=.*: a .*number from "):
        Limits(**wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0),
        ("soon", 0),
        ("", 0),
        ("-3", 0),
        ("²", 0),
        ("¹²³", 0),
        ("٣", 0),
        ("1e9", 0),
        ("nan", 0),
        ("9" * 400, float("inf")),
        ("Mon, 99 Foo 2020", 0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -9999", 0),
    ],
)
def test_retry_after(text, seconds):
    assert retry_after_s(text, now=40.0) == seconds


@pytest.mark.parametrize(
    ("address", "bare"),
    [
        ("https://me:pa%40ss@host:8/a/", "https://host:8/a"),
        ("http://me:secret@[::1]:80", "http://[::1]:80"),
        ("https://host/a?b=c", "https://host/a?b=c"),
    ],
)
def test_credentials_are_taken_out_of_addresses(address, bare):
    credentials = Credentials()
    assert credentials.take(address, "--base-url") == bare
    assert (credentials.of(f"{bare}/x") is not None) == ("@" in address)
    assert credentials.of("https://other/") is None


@pytest.mark.parametrize(
    "address",
    [
        "me:secret@host/viewer", "ftp://me:secret@host/", "http://me:secret@host:99999/", "http://me:secret@[::1/x",
        "http://me:se#cret@host/", "http://me:se/cret@host/", "http://me:se?cret@host/", "http://me:secret@",
        "http://me:secret@host/\n", "http://me:secret@ho st/",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_showing_it(address):
    with pytest.raises(GalmorphError, match="--base-url is not an address") as caught:
        Credentials().take(address, "--base-url")
    assert "cret" not in str(caught.value)
