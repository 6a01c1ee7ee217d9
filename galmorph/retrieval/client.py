"""The HTTP client of all downloads: it limits its rate and the size of answers, and repeats temporary failures.

A run has one `Client`: the connections, the limit of requests in flight, the rate limit, and the time of the last good
answer. Each target has a `Session`, which counts its attempts.
"""

from __future__ import annotations

import asyncio
import email.utils
import netrc
import os
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, TypeVar

import httpx
import tenacity

from galmorph.errors import CannotContinue, GalmorphError
from galmorph.ranges import (
    ATTEMPTS,
    BACKOFF_S,
    IN_FLIGHT,
    RATE,
    TIMEOUT_S,
    bounded,
    check_fields,
)
from galmorph.retrieval.addresses import Credentials, printable

T = TypeVar("T")

# Statuses that mean "not now": the request itself may be fine.
PASSING_STATUSES = frozenset({408, 425, 429, 502, 503, 504})
CONNECT_TIMEOUT_S = 10.0
LONGEST_BACKOFF_S = 60.0
# If a service asks for a longer pause than this, the run ends, and a message tells the user when to run it again.
LONGEST_RETRY_AFTER_S = 600.0
MOST_REDIRECTS = 5
# Variables that the HTTP library reads.
_HTTP_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Failure(GalmorphError):
    """A request without a usable answer; it concerns one target, not the run."""


class PassingFailure(Failure):
    """A temporary failure: the request is worth another attempt.

    Parameters
    ----------
    attempts : int, optional
        Maximum number of attempts for this failure, if lower than the run's `retries`.
    """

    def __init__(self, message: str, *, attempts: int | None = None) -> None:
        super().__init__(message)
        self.attempts = attempts


class FinalFailure(Failure):
    """A failure that would happen again with the same request."""


@dataclass(frozen=True)
class Answer:
    """An answer read to its end.

    Parameters
    ----------
    url : str
        The request, without user name and password; not the target of redirects, which may hold a signature.
    headers : mapping
        Names are case-insensitive.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The beginning of the body as one line of text, for messages."""
        return printable(self.body[:300].decode("utf-8", "replace"))


class Pace:
    """A rate limit that several tasks share: turns are at least ``1 / rate`` seconds apart, in order of asking."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1.0 / rate
        self._next = 0.0
        self._queue = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for the next turn."""
        async with self._queue:
            while (wait_s := self._next - time.monotonic()) > 0:
                await asyncio.sleep(wait_s)
            self._next = time.monotonic() + self._interval_s

    def pause(self, seconds: float) -> None:
        """Give no turn for some seconds."""
        self._next = max(self._next, time.monotonic() + seconds)


@dataclass(frozen=True)
class Limits:
    """Limits on the load of a service.

    Parameters
    ----------
    workers : int
        The most requests in flight.
    rate : float
        The most requests a second, redirects and repeated attempts included.
    retries : int
        The most attempts that a request gets.
    timeout_s : float
        Seconds from the start of an attempt to the last byte of its answer, so that very slow servers
        time out too.
    backoff_s : float
        The wait before the second attempt; it doubles each time, up to a minute, with jitter.

    Raises
    ------
    GalmorphError
        If one of them is out of its range.
    """

    workers: int = bounded(IN_FLIGHT, 4)
    rate: float = bounded(RATE, 4.0)
    retries: int = bounded(ATTEMPTS, 5)
    timeout_s: float = bounded(TIMEOUT_S, 120.0)
    backoff_s: float = bounded(BACKOFF_S, 2.0)

    def __post_init__(self) -> None:
        check_fields(self)


class Client:
    """The state that the requests of a run share; an asynchronous context manager.

    Parameters
    ----------
    credentials : Credentials, optional
        User names and passwords of the servers; those in the user's netrc file are used too.

    Raises
    ------
    GalmorphError
        If the environment names a proxy or certificates that cannot be used.

    Attributes
    ----------
    requests, bytes : int
        Requests made and bytes received so far.
    good_at : float
        When (``time.monotonic``) the last answer was accepted.
    """

    def __init__(self, limits: Limits, credentials: Credentials | None = None) -> None:
        self.limits = limits
        self.credentials = credentials or Credentials()
        self.requests = 0
        self.bytes = 0
        self.good_at = -float("inf")
        self.jitter = random.Random()
        self.pace = Pace(limits.rate)
        self.slots = asyncio.Semaphore(limits.workers)
        self._control = asyncio.Lock()
        self._down: CannotContinue | None = None
        self.http = _http_client(limits)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def confirm_alive(self, since: float, control: Callable[[Session], Awaitable[None]]) -> None:
        """Return if the service works, so that a failure concerns the target only.

        Parameters
        ----------
        since : float
            A good answer later than this (``time.monotonic``) is enough evidence; infinity: always ask the control.
        control : coroutine function
            Asks for something that the service certainly has; fails if it does not get it.

        Raises
        ------
        CannotContinue
            If the service is down.
        """
        async with self._control:
            if self._down is not None:
                raise self._down
            if self.good_at > since:
                return
            try:
                await control(Session(self))
            except Failure as error:
                # Kept for the other targets: an answer during the control must not count as evidence.
                self._down = CannotContinue(
                    "The service does not deliver even a galaxy that it has; it, or the network, is down. "
                    f"The last answer: {error} What is done is kept; run the same command again later."
                )
                raise self._down from error


class Session:
    """One target's requests.

    Attributes
    ----------
    attempts : int
        Requests made so far, redirects not counted.
    asked_at : float
        When (``time.monotonic``) the last attempt began.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.attempts = 0
        self.asked_at = time.monotonic()

    async def get(self, *urls: str, accept: Callable[[Answer], T], at_most: int, heavy: bool = False) -> T:
        """Ask until an answer is accepted.

        Parameters
        ----------
        *urls : str
            The same file on one or several servers, tried in turn.
        accept : callable
            Turns a good answer into the result; raises `PassingFailure` or `FinalFailure` for a bad one. It gets all
            statuses except those that mean "not now".
        at_most : int
            Bytes beyond which an answer is not read.
        heavy : bool
            Whether `accept` takes so long that it must run in a thread.

        Raises
        ------
        PassingFailure
            If every attempt failed.
        FinalFailure
            If an answer was refused.
        CannotContinue
            If the service asks for a very long pause.
        """
        return await self._ask("GET", urls, accept, at_most, heavy, {})

    async def post(
        self,
        url: str,
        *,
        data: Mapping[str, Any],
        files: Mapping[str, Any],
        accept: Callable[[Answer], T],
        at_most: int,
    ) -> T:
        """Send a form and files until an answer is accepted; for the rest see `get`."""
        return await self._ask("POST", (url,), accept, at_most, False, {"data": data, "files": files})

    async def _ask(
        self,
        method: str,
        urls: tuple[str, ...],
        accept: Callable[[Answer], T],
        at_most: int,
        heavy: bool,
        content: dict[str, Any],
    ) -> T:
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(PassingFailure),
            stop=self._enough,
            wait=self._wait,
            reraise=True,
        ):
            with attempt:
                url = urls[(attempt.retry_state.attempt_number - 1) % len(urls)]
                answer = await self._once(method, url, at_most, content)
                result = await asyncio.to_thread(accept, answer) if heavy else accept(answer)
                self.client.good_at = time.monotonic()
        return result

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        allowed = getattr(error, "attempts", None) or self.client.limits.retries
        return state.attempt_number >= min(allowed, self.client.limits.retries)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        longest: float = min(LONGEST_BACKOFF_S, self.client.limits.backoff_s * 2 ** (state.attempt_number - 1))
        return longest * self.client.jitter.uniform(0.5, 1.0)

    async def _once(self, method: str, url: str, at_most: int, content: dict[str, Any]) -> Answer:
        client = self.client
        auth: Any = client.credentials.of(url) or httpx.USE_CLIENT_DEFAULT
        self.attempts += 1
        request = self._built(method, url, content)
        try:
            async with client.slots:
                for _ in range(MOST_REDIRECTS + 1):
                    await client.pace.turn()
                    self.asked_at = time.monotonic()
                    client.requests += 1
                    async with asyncio.timeout(client.limits.timeout_s):
                        response = await client.http.send(request, stream=True, auth=auth)
                        try:
                            if response.next_request is None:
                                return self._checked(url, response, await _body(response, at_most, url))
                        finally:
                            await response.aclose()
                    # The library keeps a password in a redirect only to the same scheme and host. Without own
                    # authentication the netrc file's is not added for another server either.
                    request, auth = response.next_request, None
        except TimeoutError:
            raise PassingFailure(f"no complete answer from {url} within {client.limits.timeout_s:g} s.") from None
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise FinalFailure(f"{url} redirects to an address that cannot be asked.") from error
        except GalmorphError:
            raise
        except Exception as error:  # the library also raises errors of names, ports and sockets
            raise PassingFailure(f"{url}: {printable(str(error)) or type(error).__name__}.") from error
        raise FinalFailure(f"{url} redirects more than {MOST_REDIRECTS} times.")

    def _built(self, method: str, url: str, content: dict[str, Any]) -> httpx.Request:
        try:
            request = self.client.http.build_request(method, url, **content)
            if request.url.scheme in ("http", "https") and request.url.host:
                return request
            reason = "it must begin with http:// or https:// and a host"
        except (httpx.InvalidURL, ValueError) as error:
            reason = printable(str(error))
        raise GalmorphError(f"{url} is not an address that can be asked: {reason}.")

    def _checked(self, url: str, response: httpx.Response, body: bytes) -> Answer:
        self.client.bytes += len(body)
        if response.status_code in PASSING_STATUSES:
            pause_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
            if pause_s > LONGEST_RETRY_AFTER_S:
                raise CannotContinue(
                    f"{response.url.host} asks to come back in {pause_s / 60:.0f} minutes. "
                    "What is done is kept; run the same command again then."
                )
            self.client.pace.pause(pause_s)
            raise PassingFailure(f"{url} answered {response.status_code} {printable(response.reason_phrase)}.")
        return Answer(url, response.status_code, response.headers, body)


def user_agent() -> str:
    """Return the user agent that servers see."""
    try:
        release = version("galmorph-survey")
    except PackageNotFoundError:
        release = "dev"
    return f"galmorph/{release} (+https://pypi.org/project/galmorph-survey/) httpx/{httpx.__version__}"


def retry_after_s(text: str, now: float) -> float:
    """Return the seconds that a Retry-After header asks for: a number or an HTTP date; 0 for anything else.

    Parameters
    ----------
    text : str
        The header's value.
    now : float
        Seconds since 1970.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0


async def _body(response: httpx.Response, at_most: int, url: str) -> bytes:
    """Return the body of a response, decompressed once at most, and never of more than `at_most` bytes."""
    chunks, size = [], 0
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise FinalFailure(f"{url} sends an encoding that was not requested: {printable(encoding, 40)}.")
    inflate = None if encoding in ("", "identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    async for chunk in response.aiter_raw():
        if inflate is not None:
            try:
                chunk = inflate.decompress(chunk, at_most + 1 - size)
            except zlib.error as error:
                raise PassingFailure(f"{url} sends damaged {encoding}: {error}.") from error
        size += len(chunk)
        if size > at_most:
            raise FinalFailure(f"{url} sends more than the {at_most} bytes that were to be expected.")
        chunks.append(chunk)
    if inflate is not None and not inflate.eof:
        raise PassingFailure(f"{url} sends {encoding} that is cut short.")
    return b"".join(chunks)


def _http_client(limits: Limits) -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(
            headers={"User-Agent": user_agent(), "Accept-Encoding": "identity"},
            auth=_netrc(),
            limits=httpx.Limits(max_connections=limits.workers, max_keepalive_connections=limits.workers),
            timeout=httpx.Timeout(limits.timeout_s, connect=min(CONNECT_TIMEOUT_S, limits.timeout_s)),
        )
    except Exception as error:  # the library raises errors of any kind; their text may hold a password
        names = [name for name in os.environ if name.upper() in _HTTP_VARIABLES]
        raise GalmorphError(
            f"The proxy or the certificates of the environment cannot be used ({type(error).__name__}): "
            f"see to {', '.join(sorted(names)) or 'the system settings'}."
        ) from None


def _netrc() -> httpx.Auth | None:
    try:
        return httpx.NetRCAuth(os.environ.get("NETRC"))
    except (OSError, ValueError, netrc.NetrcParseError):
        return None
