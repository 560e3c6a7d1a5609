"""Every layout of one to eight ranks loads what every other has saved, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.checkpoint.ranks import Ranks

pytestmark = pytest.mark.slow
SCENES = "tests.integration.checkpoint.scenes"
LAYOUTS = [
    (pp, dp, tp, 2 if dp % 2 == 0 and pp == 1 else 1)
    for pp in range(1, 9)
    for dp in range(1, 9)
    for tp in range(1, 9)
    if pp * dp * tp <= 8
]


@pytest.mark.timeout(3600)
def test_every_pair_of_layouts(tmp_path: Path) -> None:
    directories = [str(tmp_path / str(index)) for index in range(len(LAYOUTS))]
    with Ranks(8) as ranks:
        for version, (mesh, directory) in enumerate(zip(LAYOUTS, directories, strict=True)):
            size = mesh[0] * mesh[1] * mesh[2]
            ranks.run(f"{SCENES}:save", size, directory=directory, mesh=mesh, version=version)
        for mesh in LAYOUTS:
            size = mesh[0] * mesh[1] * mesh[2]
            for answer in ranks.run(
                f"{SCENES}:load_each", size, directories=directories, mesh=mesh
            ):
                assert answer == [[version, []] for version in range(len(LAYOUTS))], mesh
