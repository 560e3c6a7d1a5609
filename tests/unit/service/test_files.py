"""The files of a service are read again while it runs; what can't be read changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.security import ServerSecurity, Tokens
from rendezvous.service import files
from rendezvous.service.files import LiveSecurity, check_pair
from tests.certificates import Certificates


def test_tokens_are_those_of_now(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """1. The file changes. 2. It can't be read, and is complained of once. 3. It can again."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(files, "AGAIN", 0.0)
    text = "old-token"

    def read() -> ServerSecurity:
        return ServerSecurity(tokens=Tokens.parse(text))

    live = LiveSecurity(read(), read)
    assert live.tokens.known("Bearer old-token")
    text = "new-token"
    assert live.tokens.known("Bearer new-token")
    assert not live.tokens.known("Bearer old-token")
    text = ""
    for _ in range(10):
        assert live.tokens.known("Bearer new-token")
    assert caplog.text.count("what was read before is used on") == 1
    text = "third-token"
    assert live.tokens.known("Bearer third-token")


def test_a_crowd_reads_them_once() -> None:
    count = 0

    def read() -> ServerSecurity:
        nonlocal count
        count += 1
        return ServerSecurity()

    live = LiveSecurity(ServerSecurity(), read)
    for _ in range(10_000):
        assert not live.tokens
    assert count <= 2


def test_without_files_nothing_is_read_again() -> None:
    live = LiveSecurity(ServerSecurity(tokens=Tokens(("a-token",))))
    assert live.tokens.known("Bearer a-token")
    assert live.credentials() is None


def test_a_certificate_and_the_key_of_another_are_no_pair(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    check_pair(str(made.server.cert), str(made.server.key))
    with pytest.raises(ConfigurationError, match="don't belong together"):
        check_pair(str(made.server.cert), str(made.client.key))
    (tmp_path / "half.pem").write_bytes(made.server.cert.read_bytes()[:100])
    with pytest.raises(ConfigurationError, match="can't be read"):
        check_pair(str(tmp_path / "half.pem"), str(made.server.key))
