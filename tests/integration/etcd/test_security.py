"""TLS, mutual TLS, names and passwords, tokens that expire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from rendezvous.errors import NotAuthenticated, PermissionDenied, StoreUnavailable
from rendezvous.etcd import Access, Deadlines, EtcdClient
from rendezvous.store import Put, elect
from tests.certificates import Certificates
from tests.etcd_server import EtcdServer
from tests.integration.etcd.history import PATIENCE
from tests.proxy import Proxy

PASSWORD = "correct horse"
SHORT = Deadlines(connect=0.5, attempt=1.0, call=1.5)
TOKEN_TTL = 1


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EtcdServer]:
    """Wants a name and a password, and forgets tokens that are unused for a second."""
    with EtcdServer.start(tmp_path, options=[f"--auth-token-ttl={TOKEN_TTL}"]) as server:
        server.enable_auth(PASSWORD)
        yield server


async def put_and_watch(client: EtcdClient) -> None:
    revision = await client.put("a", b"1")
    async with asyncio.timeout(PATIENCE):
        changes = await anext(client.watch("a", start=revision))
    assert [change.key for change in changes.changes] == ["a"]
    lease = await client.grant(5.0)
    assert await client.keep_alive(lease.id) == 5.0


async def test_tls(tmp_path: Path, certificates: Certificates) -> None:
    with EtcdServer.start(tmp_path, certificates=certificates) as server:
        client = EtcdClient([server.endpoint], access=Access(ca=certificates.ca.read_bytes()))
        await put_and_watch(client)
        await client.close()


async def test_tls_with_a_strange_authority(tmp_path: Path, certificates: Certificates) -> None:
    strange = Certificates.make(tmp_path / "strange").ca.read_bytes()
    with EtcdServer.start(tmp_path, certificates=certificates) as server:
        for access in (Access(ca=strange), Access()):
            client = EtcdClient([server.endpoint], access=access, deadlines=SHORT)
            with pytest.raises(StoreUnavailable, match=server.endpoint):
                await client.get("a")
            await client.close()


async def test_mutual_tls(tmp_path: Path, certificates: Certificates) -> None:
    ca = certificates.ca.read_bytes()
    pair = certificates.client
    with EtcdServer.start(tmp_path, certificates=certificates, mutual=True) as server:
        mine = Access(ca=ca, cert=pair.cert.read_bytes(), key=pair.key.read_bytes())
        client = EtcdClient([server.endpoint], access=mine)
        await put_and_watch(client)
        await client.close()
        stranger = EtcdClient([server.endpoint], access=Access(ca=ca), deadlines=SHORT)
        with pytest.raises(StoreUnavailable):
            await stranger.get("a")
        await stranger.close()


async def test_name_and_password(guarded: EtcdServer) -> None:
    access = Access(user="root", password=PASSWORD)
    client = EtcdClient([guarded.endpoint], access=access)
    await put_and_watch(client)
    await client.close()
    for wrong in (Access(user="root", password="guess"), Access()):
        client = EtcdClient([guarded.endpoint], access=wrong)
        with pytest.raises(NotAuthenticated):
            await client.get("a")
        with pytest.raises(NotAuthenticated):
            await client.put("a", b"")
        await client.close()


async def test_a_user_who_may_not(guarded: EtcdServer) -> None:
    root = f"root:{PASSWORD}"
    guarded.ctl("user", "add", "guest:guest", user=root)
    guarded.ctl("role", "add", "reader", user=root)
    guarded.ctl("role", "grant-permission", "reader", "read", "open/", "open0", user=root)
    guarded.ctl("user", "grant-role", "guest", "reader", user=root)
    access = Access(user="guest", password="guest")
    client = EtcdClient([guarded.endpoint], access=access)
    assert (await client.list("open/")).entries == ()
    with pytest.raises(PermissionDenied):
        await client.put("open/a", b"")
    with pytest.raises(PermissionDenied):
        await client.get("a")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(PermissionDenied):
            await anext(client.watch("closed/", start=1))
    await client.close()


async def test_expired_tokens_are_renewed(guarded: EtcdServer) -> None:
    """1. A client calls and watches. 2. Its token expires. 3. All at once call: one renews it.
    4. It expires again and the watch is cut: the watch comes back by itself."""
    access = Access(user="root", password=PASSWORD)
    async with Proxy(guarded.endpoint) as proxy:
        watching = EtcdClient([proxy.endpoint], access=access, learn=False)
        client = EtcdClient([guarded.endpoint], access=access)
        start = await client.put("a", b"0") + 1
        told = watching.watch("a", start=start)
        await client.put("a", b"1")
        assert (await anext(told)).revision == start
        await expiry()
        revisions = await asyncio.gather(*(client.put("a", b"%d" % i) for i in range(10)))
        assert sorted(revisions) == list(range(start + 1, start + 11))
        await expiry()
        proxy.cut()
        last = await client.put("a", b"last")
        proxy.heal()
        seen = [start]
        async with asyncio.timeout(PATIENCE):
            while seen[-1] < last:
                changes = await anext(told)
                seen += [change.revision for change in changes.changes]
        assert seen == list(range(start, last + 1))
        await told.aclose()
        await watching.close()
        await client.close()


async def expiry() -> None:
    """etcd looks for expired tokens once a second; nothing tells when it has."""
    await asyncio.sleep(2 * TOKEN_TTL + 0.5)


async def test_a_password_that_was_changed_is_read_again(guarded: EtcdServer) -> None:
    """1. A client writes. 2. The password is changed: token and password are refused.
    3. The file has the new one: the same client writes."""
    now = Access(user="root", password=PASSWORD)
    client = EtcdClient([guarded.endpoint], access=now, read_access=lambda: now)
    await client.put("a", b"1")
    user = f"root:{PASSWORD}"
    guarded.ctl("user", "passwd", "root", "--interactive=false", user=user, said="another\n")
    with pytest.raises(NotAuthenticated):
        await client.put("a", b"2")
    assert "--store-password-file" in client.trouble
    now = Access(user="root", password="another")
    await client.put("a", b"3")
    assert client.trouble == ""
    await client.close()


async def test_authentication_is_followed_when_it_is_switched(guarded: EtcdServer) -> None:
    """1. A client with a user writes and watches. 2. Authentication is switched off: so does a
    fresh one. 3. It is switched on again: both do, and a lease is renewed throughout."""
    access = Access(user="root", password=PASSWORD)
    client = EtcdClient([guarded.endpoint], access=access)
    await put_and_watch(client)
    leader = await elect(client, "leader", b"one", ttl=2.0, own_thread=True)
    guarded.ctl("auth", "disable", user=f"root:{PASSWORD}")
    fresh = EtcdClient([guarded.endpoint], access=access)
    for one in (client, fresh):
        await put_and_watch(one)
    guarded.ctl("auth", "enable")
    for one in (client, fresh):
        await put_and_watch(one)
    assert await leader.write([Put("b", b"1")])
    await leader.resign()
    await client.close()
    await fresh.close()


async def test_certificates_that_were_replaced_are_read_again(
    tmp_path: Path, certificates: Certificates
) -> None:
    strange = Certificates.make(tmp_path / "strange").ca.read_bytes()
    now = Access(ca=strange)
    with EtcdServer.start(tmp_path, certificates=certificates) as server:
        client = EtcdClient([server.endpoint], access=now, read_access=lambda: now)
        with pytest.raises(StoreUnavailable):
            await client.get("a")
        now = Access(ca=certificates.ca.read_bytes())
        await put_and_watch(client)
        await client.close()
