"""Tokens, and where a service may listen."""

from __future__ import annotations

import pytest

from rendezvous.errors import ConfigurationError
from rendezvous.security import Security, ServerSecurity, Tokens, is_loopback


def test_no_tokens_open_everything() -> None:
    assert Tokens().opens("any", "")
    assert not Tokens()


def test_a_token_opens_its_own_job_only() -> None:
    tokens = Tokens.parse("# ours\nsecret-of-all\n\njob-1 secret-of-one\n")
    assert tokens.opens("job-2", "Bearer secret-of-all")
    assert tokens.opens("job-1", "Bearer secret-of-one")
    assert not tokens.opens("job-1", "Bearer secret-of-all")
    assert not tokens.opens("job-2", "Bearer secret-of-one")
    assert not tokens.opens("job-2", "")


def test_a_job_without_a_token_is_closed() -> None:
    tokens = Tokens.parse("job-1 secret-of-one")
    assert not tokens.opens("job-2", "Bearer ")
    assert not tokens.opens("job-2", "Bearer \0")
    assert not tokens.opens("job-2", "\0")


@pytest.mark.parametrize("text", ["", "# only words\n", "short", "a b c", "job tok\x07en-token"])
def test_a_file_without_proper_tokens_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Tokens.parse(text)


def test_the_old_and_the_new_token_open_it_while_they_are_replaced() -> None:
    tokens = Tokens.parse("old-of-all\nnew-of-all\njob-1 old-of-one\njob-1 new-of-one\n")
    for age in ("old", "new"):
        assert tokens.opens("job-2", f"Bearer {age}-of-all")
        assert tokens.opens("job-1", f"Bearer {age}-of-one")
        assert tokens.known(f"Bearer {age}-of-one")
        assert not tokens.opens("job-1", f"Bearer {age}-of-all")
    assert not tokens.known("Bearer other-of-all")


def test_tokens_are_not_shown() -> None:
    assert "secret" not in repr(Tokens.parse("secret-of-all"))
    assert "secret" not in repr(Security(token="secret-of-all"))


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/tmp/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("node-1:1", False),
        ("127.0.0.1.example:1", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_an_open_address_needs_both_tls_and_token() -> None:
    tokens = Tokens.parse("secret-of-all")
    both = ServerSecurity(cert=b"c", key=b"k", tokens=tokens)
    both.check_listen("0.0.0.0:1", insecure=False)
    for half in (
        ServerSecurity(),
        ServerSecurity(tokens=tokens),
        ServerSecurity(cert=b"c", key=b"k"),
    ):
        with pytest.raises(ConfigurationError, match="--insecure"):
            half.check_listen("0.0.0.0:1", insecure=False)
        half.check_listen("0.0.0.0:1", insecure=True)
        half.check_listen("127.0.0.1:1", insecure=False)


def test_halves_of_a_pair_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        ServerSecurity(cert=b"c")
    with pytest.raises(ConfigurationError):
        ServerSecurity(ca=b"c")
    with pytest.raises(ConfigurationError):
        Security(key=b"k")
    with pytest.raises(ConfigurationError, match="cannot read the token file"):
        Security.from_files(token_file="/nowhere/at/all")
