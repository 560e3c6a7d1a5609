"""Mirrors between two agents, over a real socket."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from rendezvous.generation import Generation, Member
from trainer.agent.greeting import GenerationKey
from trainer.agent.keeping import MIRROR_LABEL, Keeping
from trainer.agent.mirrors import MirrorServer, send_mirror
from trainer.checkpoint.staging import FORMAT, Slots, read_description

KEY = GenerationKey(3, b"secret")


@pytest.fixture
def slot(tmp_path):
    slot = Slots(tmp_path / "mine" / "own-0").free()
    assert slot is not None
    memory = slot.memory(5000)
    memory[:5000] = np.arange(5000) % 251
    description = {
        "format": FORMAT,
        "slot": str(slot.path),
        "held_bytes": 5000,
        "version": 7,
        "attempt": "v00000007-g00001-0000000a",
        "path": None,
        "mirror": True,
    }
    return slot.publish(description, pending=False)


@pytest.fixture
def server(tmp_path):
    server = MirrorServer(tmp_path / "theirs", "127.0.0.1", {})
    server.know(KEY)
    yield server
    server.close()


def test_a_mirror_arrives_whole(tmp_path, slot, server):
    assert send_mirror(slot, "node-own-0", server.endpoint, KEY) == 5000
    (arrived,) = (tmp_path / "theirs" / "from-node-own-0").glob("*.json")
    assert read_description(arrived)["version"] == 7
    copy = np.fromfile(arrived.with_suffix(".stage"), dtype=np.uint8)[:5000]
    assert (copy == np.arange(5000) % 251).all()


def test_two_mirrors_take_turns_so_that_one_is_always_whole(tmp_path, slot, server):
    for _ in range(3):
        send_mirror(slot, "node-own-0", server.endpoint, KEY)
    assert len(list((tmp_path / "theirs" / "from-node-own-0").glob("*.json"))) == 2


def test_a_stranger_is_refused_and_leaves_nothing(tmp_path, slot, server):
    with pytest.raises(ConnectionError):
        send_mirror(slot, "node-own-0", server.endpoint, GenerationKey(3, b"a guess"))
    assert not list((tmp_path / "theirs").glob("*/*.json"))


@pytest.mark.parametrize("name", ["../up", "", "a/b", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, slot, server, name):
    with pytest.raises(ConnectionError):
        send_mirror(slot, name, server.endpoint, KEY)
    assert not list(tmp_path.glob("theirs/**/*.json"))


def test_a_sender_that_breaks_off_leaves_nothing_visible(tmp_path, slot, server):
    host, port = server.endpoint.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.recv(16)
        connection.sendall(b'{"name": "n", "description": {"held_bytes": 50}, "digest": ')
    send_mirror(slot, "node-own-0", server.endpoint, KEY)
    assert [path.parent.name for path in tmp_path.glob("theirs/*/*.json")] == ["from-node-own-0"]


async def test_no_state_is_left_with_a_node_that_goes_too(tmp_path, slot):
    """
    1. a's mirrors go to the next node, b
    2. b is about to leave as well: what it was sent goes to c, and so does all that follows
    """
    servers = {node: MirrorServer(tmp_path / node, "127.0.0.1", {}) for node in "bc"}
    for server in servers.values():
        server.know(KEY)
    members = [Member(node="a", incarnation=1, slots=1, host="a", store_endpoint="")]
    members += [
        Member(
            node=node,
            incarnation=1,
            slots=1,
            host=node,
            store_endpoint="",
            labels={MIRROR_LABEL: server.endpoint},
        )
        for node, server in servers.items()
    ]
    generation = Generation(number=3, members=tuple(members), reason="why", secret="secret")
    told = []
    keeping = Keeping("a", "127.0.0.1", topology=None, report=lambda *event: told.append(event))

    def mirrored(node: str) -> int:
        return len(list((tmp_path / node).glob("from-a-own-0/*.json")))

    try:
        keeping.staged(slot, generation)
        await keeping.handed_over(60)
        assert (mirrored("b"), mirrored("c")) == (1, 0)
        keeping.without((), generation)
        keeping.without(("b",), generation)
        await keeping.handed_over(60)
        assert (mirrored("b"), mirrored("c")) == (1, 1)
        keeping.staged(slot, generation)
        await keeping.handed_over(60)
        assert (mirrored("b"), mirrored("c")) == (1, 2)
        keeping.without(("b", "c"), generation)
        keeping.staged(slot, generation)
        await keeping.handed_over(60)
        assert (mirrored("b"), mirrored("c")) == (1, 2), "nobody stays who could take it"
        assert told == []
    finally:
        keeping.close()
        for server in servers.values():
            server.close()
