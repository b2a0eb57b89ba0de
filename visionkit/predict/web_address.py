"""Strangers' addresses, opened without harm: whoever may name a URL must not reach what only this machine can reach.

A host's name is looked up once, all its addresses are checked, and the connection goes to one of those: a second
look-up could answer otherwise (DNS rebinding). Every redirect is checked anew. Proxies of the environment are not used,
because they would choose the address themselves.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from visionkit.errors import DataError

SILENCE = 10.0
"""Seconds without a byte after which a server counts as gone."""

MOST_REDIRECTS = 5
_MOST_ADDRESSES = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}
# Deprecated and yet in use here and there as private ones; Python counts them among the global (RFC 3879).
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
# IPv6 addresses that carry an IPv4 one in their last 32 bits, to which a gateway may lead (RFC 6052, section 2.1).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet: not of this machine (loopback), of a private network (RFC
    1918, RFC 4193), of the link (169.254.0.0/16, where clouds keep their metadata, fe80::/10), shared by a carrier (RFC
    6598), of a group or reserved; nor IPv6 that stands for such an IPv4 address.

    >>> [is_public(ip) for ip in ("93.184.216.34", "127.0.0.1", "10.1.2.3", "::1", "::ffff:192.168.0.1")]
    [True, False, False, False, False]
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _SITE_LOCAL


def checked_addresses(host: str, port: int, *, name: str, allow_private: bool) -> list[str]:
    """The IP addresses of a host.

    Args:
        name: what errors call the whole address.
        allow_private: whether those that are not `is_public` are well.

    Raises:
        DataError: it has none, or one that is not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or too long
        raise _unreachable(name, error) from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    private = [] if allow_private else [address for address in addresses if not is_public(address)]
    if private:
        raise DataError(
            f"{name} is at {private[0]}, which is no public address, and those are refused; "
            "allow them by --allow-private-urls if you trust it"
        )
    return addresses[:_MOST_ADDRESSES]


def pinned(url: str, *, name: str, allow_private: bool) -> str:
    """A URL with its host replaced by a checked IP address, for who would look the host up itself.

    Raises:
        DataError: as `checked_addresses`.
    """
    parts = _split(url, name)
    assert parts.hostname is not None
    port = parts.port or _PORTS[parts.scheme]
    address = checked_addresses(parts.hostname, port, name=name, allow_private=allow_private)[0]
    user = parts.netloc.rpartition("@")[0]
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=f"{user}@{host}:{port}" if user else f"{host}:{port}").geturl()


class Deadline:
    """Ends a transfer that takes too long, however a server stretches it: the connection is shut.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        self._timer.start()

    def watch(self, connected: socket.socket) -> None:
        """From now on it is this connection."""
        self._socket = connected
        if self.passed:
            self._shut()

    def cancel(self) -> None:
        self._timer.cancel()

    def _shut(self) -> None:
        self.passed = True
        if self._socket is not None:
            with suppress(OSError):  # it has ended already
                # Not the method of a TLS socket, which would unwrap it under the hands of who reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@contextmanager
def opened(url: str, *, name: str, allow_private: bool, deadline: Deadline) -> Iterator[HTTPResponse]:
    """A server's answer to GET of an http or https URL, behind all redirects; read what of it is wanted.

    Args:
        name: what errors call the URL.
        allow_private: see `checked_addresses`.

    Raises:
        DataError: it cannot be reached, is refused, leads nowhere, or is silent for `SILENCE` seconds; also of what is
            raised while its body is read.
    """
    connection: HTTPConnection | None = None
    try:
        for _ in range(MOST_REDIRECTS + 1):
            connection = _connection(url, name, allow_private, deadline)
            response = _answer(connection, url, name)
            if response.status not in _REDIRECTS:
                break
            target = urljoin(url, response.headers.get("Location", ""))
            connection.close()
            if urlsplit(target).scheme not in ("http", "https"):
                raise DataError(f"{name} leads to an address that is not http or https; name the file's own address")
            url = target
        else:
            raise DataError(f"{name} leads on more than {MOST_REDIRECTS} times; name the file's own address")
        if response.status != 200:
            raise DataError(
                f"{name} was refused by its server ({response.status} {response.reason}); check the address"
            )
        yield response
    except TimeoutError:
        raise DataError(f"{name} cannot be read (nothing came for {SILENCE:g} s); try again later") from None
    except (OSError, HTTPException, UnicodeError, ValueError) as error:
        if deadline.passed:
            raise too_long(name, deadline) from None
        raise _unreachable(name, error) from None
    finally:
        if connection is not None:
            connection.close()


def too_long(name: str, deadline: Deadline) -> DataError:
    return DataError(f"{name} took longer than {deadline.seconds:g} s, it is given up; try again later")


def _connection(url: str, name: str, allow_private: bool, deadline: Deadline) -> HTTPConnection:
    """A connection to a checked address of a URL's host."""
    parts = _split(url, name)
    host = parts.hostname
    assert host is not None
    port = parts.port or _PORTS[parts.scheme]
    addresses = checked_addresses(host, port, name=name, allow_private=allow_private)
    connection = HTTPConnection(host, port, timeout=SILENCE)
    for last, address in enumerate(addresses, start=1):
        try:
            connected = socket.create_connection((address, port), SILENCE)
            break
        except OSError:
            if last == len(addresses) or deadline.passed:
                raise
    deadline.watch(connected)
    if parts.scheme == "https":
        connected = _encrypted(connected, host, deadline)
    # With a socket of its own it looks nothing up.
    connection.sock = connected
    return connection


def _encrypted(connected: socket.socket, host: str, deadline: Deadline) -> ssl.SSLSocket:
    """The connection in TLS, with the server's certificate checked for the host's name."""
    context = ssl.create_default_context()
    encrypted = context.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
    deadline.watch(encrypted)
    try:
        encrypted.do_handshake()
    except BaseException:
        encrypted.close()
        raise
    return encrypted


def _answer(connection: HTTPConnection, url: str, name: str) -> HTTPResponse:
    parts = _split(url, name)
    user, _, host = parts.netloc.rpartition("@")
    headers = {"Host": host.encode("idna").decode(), "User-Agent": "visionkit", "Accept-Encoding": "identity"}
    if user:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
        f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~[]')}" if parts.query else ""
    )
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises where it is none
    except ValueError as error:
        raise DataError(f"{name} is not a URL ({error}), one is https://HOST/PATH; correct it") from None
    if not parts.hostname:
        raise DataError(f"{name} names no host, an address is https://HOST/PATH; correct it")
    return parts


def _unreachable(name: str, error: Exception) -> DataError:
    words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return DataError(f"{name} cannot be reached ({' '.join(words.split())}); check the address and the network")
