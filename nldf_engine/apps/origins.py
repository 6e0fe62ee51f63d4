"""Whose page a request of a browser comes from: a page of another site must not use a server of its reader's
machine.

Programs that are no browsers send no Origin header. A site can make its name resolve to this machine, so that
its page's Origin and Host agree: a server for this machine alone answers to this machine's names alone.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_local(host: str) -> bool:
    """Whether a host's name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_own_page(origin: str | None, host: str | None) -> bool:
    """Whether a request was made by a page of the server that it goes to, going by its headers.

    Args:
        origin, host: of the request; None where it has no such header.

    Example:
        >>> is_own_page("http://127.0.0.1:8080", "127.0.0.1:8080")
        True
        >>> is_own_page("https://a.example", "127.0.0.1:8080")
        False
    """
    return origin is None or (host is not None and urlsplit(origin).netloc.lower() == host.lower())


def is_known_host(host: str | None, bound: str) -> bool:
    """Whether a request's Host header names the address that the server listens at.

    Args:
        host: the header, with or without a port; None where there is none.
        bound: the address; where that is this machine alone, so must the name be.
    """
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:  # half a bracket of an IPv6 address
        name = ""
    return not is_local(bound) or is_local(name.lower())
