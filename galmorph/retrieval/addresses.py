"""Addresses of servers, and the user names and passwords in them, which go to the servers only."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from galmorph.errors import GalmorphError

Origin = tuple[str, str, int | None]


class Credentials:
    """User names and passwords by origin (scheme, host, port)."""

    def __init__(self) -> None:
        self._auth: dict[Origin, httpx.BasicAuth] = {}

    def take(self, address: str, option: str) -> str:
        """Return an address without user name and password, which are stored.

        Parameters
        ----------
        option : str
            Option or environment variable that it comes from, for messages.

        Raises
        ------
        GalmorphError
            If it is not the address of a server; the message never shows a password.
        """
        fault = f"{option} is not an address that can be asked"
        try:
            parts = urlsplit(address)
            origin = origin_of(address)
        except ValueError:
            raise GalmorphError(f"{fault}: its host or port cannot be read.") from None
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        if "@" in bare or any(not " " < character < "\x7f" for character in address):
            raise GalmorphError(f"{fault}: write special characters of a password as percent and code, @ as %40.")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GalmorphError(f"{fault}: it must begin with http:// or https:// and a host.")
        if parts.username is not None:
            self._auth[origin] = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
        return bare.rstrip("/")

    def of(self, url: str) -> httpx.BasicAuth | None:
        """Return the credentials for the origin of a URL."""
        return self._auth.get(origin_of(url)) if self._auth else None


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of a URL; raise ValueError if they cannot be read."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def printable(text: str, most: int = 150) -> str:
    """Return the beginning of a foreign text as one line without control characters."""
    line = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    return " ".join(line.split())[:most]
