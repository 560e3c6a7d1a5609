"""Tokens and certificates of a service and its agents are replaced while both run."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from rendezvous.errors import Unreachable
from rendezvous.security import Security
from rendezvous.session import Operator, Reconnected, Refused
from tests.attendants import PATIENCE, Attendant, Crew, spec_of
from tests.certificates import Certificates
from tests.proxy import Proxy
from tests.rendezvous_services import ServiceProcess

SPEC = spec_of(1, 1, beat_timeout=60.0, reconnect_grace=60.0, leader_grace=60.0)
"""Whoever is refused for a while is not given up for it."""


def _install(made: Certificates, folder: Path) -> None:
    """The key first, as some tool may do it: for a moment the two don't belong together."""
    folder.mkdir(exist_ok=True)
    shutil.copy(made.server.key, folder / "key.pem")
    shutil.copy(made.server.cert, folder / "cert.pem")


async def _cut(wire: Proxy, one: Attendant, kind: type[Refused] | type[Reconnected]) -> None:
    """The connection ends; return when the agent has heard that of the next one."""
    before = len(one.heard)
    wire.cut()
    wire.heal()
    await one.until(lambda: any(isinstance(event, kind) for event in one.heard[before:]))


async def _reachable(endpoint: str, security: Security) -> bool:
    async with Operator([endpoint], security=security, deadline=5.0) as operator:
        try:
            return (await operator.status()).leader != ""
        except Unreachable:
            return False


async def test_tokens_and_certificates_are_replaced(tmp_path: Path) -> None:
    """
    1. An agent is in generation 1. The service's token is replaced, then the connection breaks:
       the agent is refused, and trains on. Its own token is replaced: it is taken back.
    2. The service's certificate is replaced by another authority's. Who knows that one is served,
       who knows the old one alone no longer, and the agent is once its file names the new one.
    3. All the time it is generation 1.
    """
    old, new = Certificates.make(tmp_path / "old"), Certificates.make(tmp_path / "new")
    served, tokens = tmp_path / "served", tmp_path / "tokens"
    mine = {name: tmp_path / f"mine-{name}" for name in ("ca", "token")}
    _install(old, served)
    tokens.write_text("token-of-old\n")
    mine["token"].write_text("token-of-old\n")
    shutil.copy(old.ca, mine["ca"])

    def read() -> Security:
        return Security.from_files(ca=str(mine["ca"]), token_file=str(mine["token"]))

    options = [
        *("--tls-cert", str(served / "cert.pem"), "--tls-key", str(served / "key.pem")),
        *("--token-file", str(tokens)),
    ]
    with ServiceProcess.start("memory", tmp_path / "log", options=options) as service:
        async with (
            Proxy(service.endpoint) as wire,
            Crew([wire.endpoint], SPEC, security=read(), read_security=read) as crew,
        ):
            (one,) = await crew.join("a")
            await crew.formed(1)
            tokens.write_text("token-of-new\n")
            async with asyncio.timeout(PATIENCE):
                while not await _knows(service.endpoint, old, "token-of-new"):
                    await asyncio.sleep(0.1)
            await _cut(wire, one, Refused)
            await one.until_steps(20)
            mine["token"].write_text("token-of-new\n")
            await one.until(lambda: one.connected)

            _install(new, served)
            fresh = Security(ca=new.ca.read_bytes(), token="token-of-new")
            async with asyncio.timeout(PATIENCE):
                while not await _reachable(service.endpoint, fresh):
                    await asyncio.sleep(0.1)
            stale = Security(ca=old.ca.read_bytes(), token="token-of-new")
            assert not await _reachable(service.endpoint, stale)
            wire.cut()
            wire.heal()
            await one.until(lambda: not one.connected)
            await one.until_steps(20)
            shutil.copy(new.ca, mine["ca"])
            await one.until(lambda: one.connected)
            assert [generation.number for generation in one.generations] == [1]
    assert "token-of" not in service.log


async def _knows(endpoint: str, made: Certificates, token: str) -> bool:
    """Whether the token opens the job by now."""
    security = Security(ca=made.ca.read_bytes(), token=token)
    async with Operator([endpoint], security=security) as operator:
        return bool((await operator.status()).jobs)


def test_a_pair_that_does_not_belong_together_is_refused_at_the_start(tmp_path: Path) -> None:
    made = Certificates.make(tmp_path)
    options = ["--tls-cert", str(made.server.cert), "--tls-key", str(made.client.key)]
    with pytest.raises(RuntimeError, match="don't belong together"):
        ServiceProcess.start("memory", tmp_path / "log", options=options)
