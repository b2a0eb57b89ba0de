"""What a URL may reach: the open internet, and nothing that only this machine can."""

import base64
import shutil
import socket
import subprocess
import time

import pytest
from web_server import body, redirect, web_server

from visionkit.errors import DataError
from visionkit.predict import web_address
from visionkit.predict.web_address import Deadline, checked_addresses, is_public, opened, pinned

PUBLIC = "93.184.216.34"


@pytest.fixture
def server():
    with web_server() as server:
        yield server


def fetch(url, *, allow_private=True, seconds=60.0, name="the URL"):
    """Status, and the body of an answer."""
    deadline = Deadline(seconds)
    try:
        with opened(url, name=name, allow_private=allow_private, deadline=deadline) as response:
            return response.status, response.read()
    finally:
        deadline.cancel()


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3"),  # this machine
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),  # RFC 1918
        *("169.254.169.254", "100.64.0.1"),  # the link with the clouds' metadata, a carrier's
        *("224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),  # groups, reserved, all
        *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),  # for documents and tests
        *("::", "::1", "fc00::1", "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1"),
        # IPv4 addresses in IPv6 clothes: mapped, NAT64, 6to4, Teredo (the last 32 bits are inverted).
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::", "2002:7f00:0001::1"),
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # f5ff:fffe is not 10.0.0.1
        *("localhost", "", "300.1.1.1", "127.1"),  # no IP addresses at all
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:93.184.216.34", "64:ff9b::1.1.1.1"],
)
def test_addresses_that_are_public(address):
    assert is_public(address)


def looked_up(monkeypatch, *answers):
    """Let the look-up of any name answer so, one list of addresses after another; the last one stays."""
    left = list(answers)

    def getaddrinfo(host, port, *args, **kwargs):
        found = left.pop(0) if len(left) > 1 else left[0]
        families = [socket.AF_INET6 if ":" in ip else socket.AF_INET for ip in found]
        return [(family, socket.SOCK_STREAM, 6, "", (ip, port)) for family, ip in zip(families, found, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_one_private_address_among_public_ones_is_refused(monkeypatch):
    looked_up(monkeypatch, [PUBLIC, "::1"])
    with pytest.raises(DataError) as error:
        checked_addresses("example.org", 80, name="http://example.org/a.jpg", allow_private=False)
    assert str(error.value) == (
        "http://example.org/a.jpg is at ::1, which is no public address, and those are refused; "
        "allow them by --allow-private-urls if you trust it"
    )
    assert checked_addresses("example.org", 80, name="", allow_private=True) == [PUBLIC, "::1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]"])
def test_no_way_to_write_this_machine_reaches_it(host, server):
    server.answers["/a"] = body(b"secret")
    with pytest.raises(DataError):
        fetch(f"http://{host}:{server.port}/a", allow_private=False)
    assert server.asked == []


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    """DNS rebinding: a second look-up would answer with this machine."""
    looked_up(monkeypatch, [PUBLIC], ["127.0.0.1"])
    reached = []

    def create_connection(address, timeout):
        reached.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", create_connection)
    with pytest.raises(DataError, match=r"the URL cannot be reached \(Connection refused\); check the address"):
        fetch("http://example.org:8080/a.jpg", allow_private=False)
    assert reached == [(PUBLIC, 8080)]


def test_the_next_address_is_tried_where_one_does_not_answer(monkeypatch, server):
    server.answers["/a"] = body(b"here")
    looked_up(monkeypatch, ["127.0.0.2", "127.0.0.1"])
    connect, reached = socket.create_connection, []

    def create_connection(address, timeout):
        reached.append(address[0])
        if address[0] == "127.0.0.2":
            raise ConnectionRefusedError(111, "Connection refused")
        with monkeypatch.context() as undone:
            undone.undo()
            return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    assert fetch(server.url("/a", host="example.org")) == (200, b"here")
    assert reached == ["127.0.0.2", "127.0.0.1"]
    assert server.asked[0][1]["Host"] == f"example.org:{server.port}"


def test_a_redirect_to_a_private_address_is_refused(monkeypatch, server):
    server.answers["/a"] = redirect("http://10.0.0.1/secret")
    real = web_address.is_public
    monkeypatch.setattr(web_address, "is_public", lambda ip: ip == "127.0.0.1" or real(ip))
    with pytest.raises(DataError, match=r"the URL is at 10\.0\.0\.1, which is no public address, and those"):
        fetch(server.url("/a"), allow_private=False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server, status):
    server.answers |= {"/a": redirect("/b?x=1", status), "/b": body(b"here")}
    assert fetch(server.url("/a")) == (200, b"here")
    assert [path for path, _ in server.asked] == ["/a", "/b?x=1"]


def test_redirects_come_to_an_end(server):
    server.answers["/a"] = redirect("/a")
    with pytest.raises(DataError, match="the URL leads on more than 5 times; name the file's own address"):
        fetch(server.url("/a"))
    assert len(server.asked) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/a", "gopher://127.0.0.1:25/"])
def test_a_redirect_to_another_kind_of_address(server, target):
    server.answers["/a"] = redirect(target)
    with pytest.raises(DataError, match="the URL leads to an address that is not http or https; name the"):
        fetch(server.url("/a"))


def test_a_password_goes_to_its_own_server_only(server):
    server.answers |= {"/a": redirect(server.url("/b", host="localhost")), "/b": body(b"here")}
    assert fetch(server.url("/a").replace("//", "//us%40er:pass@", 1))[0] == 200
    (_, first), (_, second) = server.asked
    assert first["Authorization"] == f"Basic {base64.b64encode(b'us@er:pass').decode()}"
    assert "Authorization" not in second


def test_signs_of_a_path_that_are_no_ascii(server):
    server.answers["/%C5%82%20x%2F.jpg"] = body(b"here")
    assert fetch(server.url("/ł x%2F.jpg?q=ü"))[0] == 200
    assert server.asked[0][0] == "/%C5%82%20x%2F.jpg?q=%C3%BC"


def test_what_the_server_refuses(server):
    with pytest.raises(DataError, match=r"the URL was refused by its server \(404 Not Found\); check the address"):
        fetch(server.url("/missing"))


def test_nobody_answers(server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(DataError, match=r"the URL cannot be reached \(Connection refused\); check the address and the"):
        fetch(f"http://127.0.0.1:{port}/")
    with pytest.raises(DataError, match="the URL cannot be reached"):
        fetch("http://" + "a" * 70 + ".example/")  # a label has 63 letters at most
    with pytest.raises(
        DataError, match=r"the URL is not a URL \(Port out of range 0-65535\), one is https://HOST/PATH"
    ):
        fetch("http://example.org:99999/")
    with pytest.raises(DataError, match="the URL names no host, an address is https://HOST/PATH; correct it"):
        fetch("http://:80/")


def test_a_server_that_does_not_speak_tls(server):
    with pytest.raises(DataError, match="the URL cannot be reached"):
        fetch(server.url("/a").replace("http", "https"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, which makes the certificate, is not here")
def test_a_certificate_must_be_trusted_and_of_the_host(tmp_path, monkeypatch):
    """Also though the connection goes to an address and not to the name."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    making += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(making, check=True, capture_output=True)
    with web_server(certificate, key) as server:
        server.answers["/a"] = body(b"here")
        named, numbered = (server.url("/a", host=host).replace("http", "https") for host in ("localhost", "127.0.0.1"))
        with pytest.raises(DataError, match=r"the URL cannot be reached \(.*self-signed certificate"):
            fetch(named)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetch(named) == (200, b"here")
        with pytest.raises(
            DataError, match=r"the URL cannot be reached \(.*certificate is not valid for '127\.0\.0\.1'"
        ):
            fetch(numbered)


def test_a_silent_server(server, monkeypatch):
    server.answers["/a"] = lambda request: time.sleep(1)
    monkeypatch.setattr(web_address, "SILENCE", 0.05)
    with pytest.raises(DataError, match=r"the URL cannot be read \(nothing came for 0.05 s\); try again later"):
        fetch(server.url("/a"))


def drip(request):
    """Headers that never end, a byte at a time: none of the silences is long."""
    for _ in range(3000):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(0.02)


def test_a_server_that_drips_is_given_up(server):
    server.answers["/a"] = drip
    began = time.monotonic()
    with pytest.raises(DataError, match=r"the URL took longer than 0\.3 s, it is given up; try again later"):
        fetch(server.url("/a"), seconds=0.3)
    assert time.monotonic() - began < 20


def test_an_address_for_who_looks_up_himself(monkeypatch):
    looked_up(monkeypatch, [PUBLIC])
    url = pinned("rtsp://us:pa@example.org/live/1?x=2", name="n", allow_private=False)
    assert url == f"rtsp://us:pa@{PUBLIC}:554/live/1?x=2"
    looked_up(monkeypatch, ["2606:4700:4700::1111"])
    url = pinned("rtsp://example.org:8554/live", name="n", allow_private=False)
    assert url == "rtsp://[2606:4700:4700::1111]:8554/live"
    looked_up(monkeypatch, ["192.168.0.7"])
    with pytest.raises(DataError, match=r"n is at 192\.168\.0\.7, which is no public address"):
        pinned("rtsp://camera/live", name="n", allow_private=False)
    assert pinned("rtsp://camera/live", name="n", allow_private=True) == "rtsp://192.168.0.7:554/live"
