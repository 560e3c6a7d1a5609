"""Boxes: where they lie, where they meet, and what each rank of a mesh holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoint import geometry
from trainer.checkpoint.geometry import (
    Box,
    Cut,
    contiguous,
    coverage_fault,
    cut_rows,
    intersect,
    local_parts,
    slices,
    span,
    whole,
)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (Box((), ()), Box((), ()), Box((), ())),
        (Box((0,), (4,)), Box((2,), (4,)), Box((2,), (2,))),
        (Box((0,), (4,)), Box((4,), (4,)), None),
        (Box((0, 0), (4, 4)), Box((1, 2), (2, 9)), Box((1, 2), (2, 2))),
        (Box((0, 0), (4, 4)), Box((1, 4), (2, 1)), None),
        (Box((3,), (0,)), Box((0,), (9,)), None),
    ],
)
def test_intersection(a: Box, b: Box, expected: Box | None) -> None:
    assert intersect(a, b) == expected
    assert intersect(b, a) == expected


@pytest.mark.parametrize(
    ("shape", "part", "edges", "in_one_piece"),
    [
        ((), Box((), ()), (0, 1), True),
        ((4, 3), Box((1, 0), (2, 3)), (3, 9), True),
        ((4, 3), Box((1, 1), (1, 2)), (4, 6), True),
        ((4, 3), Box((1, 1), (2, 2)), (4, 9), False),
        ((2, 4, 3), Box((0, 1, 0), (2, 1, 3)), (3, 18), False),
    ],
)
def test_span(
    shape: tuple[int, ...], part: Box, edges: tuple[int, int], in_one_piece: bool
) -> None:
    assert span(shape, part) == edges
    assert contiguous(shape, part) is in_one_piece


@pytest.mark.parametrize(
    ("shape", "mesh", "cuts", "expected"),
    [
        # one dimension of FSDP, uneven: as torch.chunk, the last rank may have nothing
        ((5,), (4,), [Cut(0)], [[Box((0,), (2,))], [Box((2,), (2,))], [Box((4,), (1,))], []]),
        # replicated
        ((2, 2), (2,), [None], [[whole((2, 2))], [whole((2, 2))]]),
        # left to right on one dimension
        ((8,), (2, 2), [Cut(0), Cut(0)], [[Box((i,), (2,))] for i in (0, 2, 4, 6)]),
        # what FSDP makes of a tensor that tensor parallelism has divided on the same dimension
        ((8,), (2, 2), [Cut(0, 2), Cut(0)], [[Box((i,), (2,))] for i in (0, 4, 2, 6)]),
        # on different dimensions
        (
            (4, 6),
            (2, 2),
            [Cut(0), Cut(1)],
            [[Box((r, c), (2, 3))] for r in (0, 2) for c in (0, 3)],
        ),
        # uneven and strided: 9 elements in two blocks of 5 and 4, each among four ranks
        (
            (9,),
            (4,),
            [Cut(0, 2)],
            [
                [Box((0,), (2,)), Box((5,), (1,))],
                [Box((2,), (2,)), Box((6,), (1,))],
                [Box((4,), (1,)), Box((7,), (1,))],
                [Box((8,), (1,))],
            ],
        ),
        ((0, 3), (2,), [Cut(0)], [[], []]),
        ((), (2,), [None], [[Box((), ())], [Box((), ())]]),
    ],
)
def test_local_parts(shape, mesh, cuts, expected) -> None:
    found = [
        [box for box, _ in local_parts(shape, mesh, coordinate, cuts)]
        for coordinate in itertools.product(*map(range, mesh))
    ]
    assert found == expected


def test_local_offsets_of_a_strided_part() -> None:
    assert local_parts((9,), (4,), (0,), [Cut(0, 2)]) == [
        (Box((0,), (2,)), (0,)),
        (Box((5,), (1,)), (2,)),
    ]


@settings(deadline=None)
@given(st.data())
def test_every_element_has_one_place_in_a_mesh_without_replicas(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3))
    mesh = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    cuts = [
        Cut(data.draw(st.integers(0, len(shape) - 1)), data.draw(st.integers(1, 3))) for _ in mesh
    ]
    boxes = [
        box
        for coordinate in itertools.product(*map(range, mesh))
        for box, _ in local_parts(shape, mesh, coordinate, cuts)
    ]
    assert coverage_fault(shape, boxes) is None
    counts = np.zeros(shape, dtype=int)
    for box in boxes:
        counts[slices(box)] += 1
    assert (counts == 1).all()


@settings(deadline=None)
@given(st.lists(st.integers(1, 7), max_size=3), st.integers(1, 9))
def test_rows_make_up_the_box_and_lie_in_one_piece(sizes: list[int], parts: int) -> None:
    box = Box(tuple(range(len(sizes))), tuple(sizes))
    rows = cut_rows(box, parts)
    assert 1 <= len(rows) <= parts
    inner = [
        Box(tuple(o - b for o, b in zip(r.offsets, box.offsets, strict=True)), r.sizes)
        for r in rows
    ]
    assert coverage_fault(sizes, inner) is None
    assert all(contiguous(sizes, row) for row in inner)


def test_boxes_cut_absurdly_are_refused_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "MAX_CELLS", 3)
    fault = coverage_fault((2, 2), [Box((0, 0), (1, 2)), Box((1, 0), (1, 2))])
    assert fault == "its 2 boxes are cut too unevenly to tell"


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([], "0 elements of 6"),
        ([Box((0, 0), (2, 2))], "4 elements of 6"),
        ([Box((0, 0), (2, 2)), Box((0, 1), (2, 1))], "overlaps"),
        ([Box((0, 0), (2, 4))], "outside"),
        ([Box((-1, 0), (2, 3))], "outside"),
        ([Box((0,), (6,))], "outside"),
    ],
)
def test_coverage_faults_are_told(boxes: list[Box], words: str) -> None:
    fault = coverage_fault((2, 3), boxes)
    assert fault is not None
    assert words in fault
