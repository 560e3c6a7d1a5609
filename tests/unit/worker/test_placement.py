"""When what torch has cached of a mesh must go."""

from __future__ import annotations

import pytest

from trainer.worker.placement import Places


def mesh(pp: int = 1, shard: int = 1, tp: int = 1) -> dict[str, int]:
    return {"pp": pp, "dp_shard": shard, "tp": tp}


@pytest.mark.parametrize(
    ("places", "outdated"),
    [
        pytest.param([(1, mesh(2, 2)), (1, mesh(2, 2))], [False, False], id="the same place"),
        pytest.param([(1, mesh(shard=4)), (1, mesh(shard=3))], [False, False], id="another size"),
        pytest.param([(0, mesh(shard=2)), (1, mesh(shard=2))], [False, True], id="another rank"),
        pytest.param([(0, mesh(1, 4, 2)), (0, mesh(2, 2, 2))], [False, True], id="another shape"),
        pytest.param(
            [(1, mesh(tp=4)), (0, mesh(tp=2)), (0, mesh(tp=2))],
            [False, True, False],
            id="emptied once",
        ),
        pytest.param(
            [(0, mesh(1, 4, 2)), (0, mesh(1, 3, 2)), (0, mesh(4, 1, 2))],
            [False, False, True],
            id="remembered over another size",
        ),
        pytest.param(
            [(0, mesh(1, 4, 2)), (0, mesh(1, 3, 2)), (0, mesh(1, 4, 2))],
            [False, False, False],
            id="back to the first size",
        ),
    ],
)
def test_a_cache_is_emptied_where_it_would_be_wrong(places, outdated):
    known = Places()
    assert [known.outdated_by(*place) for place in places] == outdated
