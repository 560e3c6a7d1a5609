"""Replicas read a part each: together every byte once, and everyone ends up with all it holds."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.checkpoint.simulated import Mesh, Whole
from tests.unit.checkpoint.test_any_mesh import meshes, wholes
from trainer.checkpoint import sharing
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.move import moves_of, rows_of
from trainer.checkpoint.plan import Group, entries_of, grouped
from trainer.checkpoint.sharing import Reading, share, worth_asking

ROWS = 1 << 12
WHOLE = (Box((0, 0), (ROWS, 1024)),)


def layouts_of(mesh: Mesh, tensors: dict[str, Whole]) -> list[list[Group]]:
    return [grouped(held) for held in mesh.layouts(tensors)]


def elements(groups: list[Group]) -> Counter[tuple[str, tuple[int, ...]]]:
    """Every element of the boxes, by the place it has in its tensor."""
    return Counter(
        (entry.name, index) for entry in entries_of(groups) for index in indices(entry.box)
    )


def indices(box: Box) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for offset, size in zip(box.offsets, box.sizes, strict=True):
        found = [(*index, at) for index in found for at in range(offset, offset + size)]
    return found


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_each_rank_gets_all_that_it_holds_and_nothing_dear_is_read_twice(
    data: st.DataObject,
) -> None:
    tensors = data.draw(wholes())
    layouts = layouts_of(data.draw(meshes(tensors)), tensors)
    hosts = data.draw(
        st.lists(st.sampled_from("abc"), min_size=len(layouts), max_size=len(layouts))
    )
    remote = data.draw(st.booleans())
    least, sharing.LEAST_SHARED = sharing.LEAST_SHARED, 1
    try:
        readings = share(layouts, hosts, remote=remote)
    finally:
        sharing.LEAST_SHARED = least
    held = [elements(layout) for layout in layouts]
    if readings is None:
        return
    assert worth_asking(hosts, remote=remote)
    reads = [elements(reading.reads) for reading in readings]
    for rank, reading in enumerate(readings):
        got = Counter(reads[rank])
        for move in reading.moves:
            assert rank in (move.source, move.target)
            assert move.source != move.target
            if move.target == rank:
                got.update((move.name, index) for index in indices(move.box))
            else:
                assert all((move.name, index) in reads[rank] for index in indices(move.box))
        assert got == held[rank]
    readers = sum(reads, Counter())
    for element, count in readers.items():
        holders = {hosts[rank] for rank, of_rank in enumerate(held) if element in of_rank}
        assert count == 1 or (not remote and len(holders) == 1)
    both_ends = Counter(move for reading in readings for move in reading.moves)
    assert all(count == 2 for count in both_ends.values())


def replicas(count: int, *, remote: bool, hosts: str) -> list[Reading] | None:
    layout = grouped({"w": ("float32", (ROWS, 1024), WHOLE)})
    return share([layout] * count, hosts, remote=remote)


def test_four_replicas_read_a_quarter_each() -> None:
    readings = replicas(4, remote=False, hosts="abcd")
    assert readings is not None
    assert [sum(e.bytes for e in entries_of(r.reads)) for r in readings] == [ROWS * 1024] * 4
    for rank, reading in enumerate(readings):
        assert sum(move.target == rank for move in reading.moves) == 3
        assert sum(move.source == rank for move in reading.moves) == 3
        assert moves_of(rows_of(reading.moves)) == reading.moves


def test_on_one_host_the_page_cache_serves_the_second_reader() -> None:
    assert replicas(4, remote=False, hosts="aaaa") is None
    assert not worth_asking("aaaa", remote=False)


def test_from_an_object_store_the_ranks_of_one_host_share_too() -> None:
    assert worth_asking("aaaa", remote=True)
    assert replicas(4, remote=True, hosts="aaaa") is not None


def test_a_rank_alone_and_little_bytes_have_nothing_to_share() -> None:
    assert not worth_asking("a", remote=True)
    small = grouped({"w": ("float32", (8,), (Box((0,), (8,)),))})
    assert share([small] * 4, "abcd", remote=True) is None


def test_what_one_host_alone_holds_is_read_there_by_each() -> None:
    """Ranks 0 and 1 are replicas on one host, 2 and 3 on two."""
    near = grouped({"near": ("float32", (ROWS, 1024), WHOLE)})
    far = grouped({"far": ("float32", (ROWS, 1024), WHOLE)})
    readings = share([near, near, far, far], "aabc", remote=False)
    assert readings is not None
    read = [sum(entry.bytes for entry in entries_of(reading.reads)) for reading in readings]
    assert read == [ROWS * 4096, ROWS * 4096, ROWS * 2048, ROWS * 2048]
    assert [len(reading.moves) for reading in readings] == [0, 0, 2, 2]
