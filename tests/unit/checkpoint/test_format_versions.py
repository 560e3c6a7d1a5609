"""What an earlier release wrote is read by every later one.

`golden/format-N` was written by the release that brought format N, and is never written again.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import Checkpointer
from trainer.checkpoint.audit import audit
from trainer.checkpoint.catalog import find
from trainer.checkpoint.manifest import FORMAT_VERSION

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("number", range(1, FORMAT_VERSION + 1))
def test_every_format_is_read(tmp_path: Path, number: int) -> None:
    directory = shutil.copytree(GOLDEN / f"format-{number}", tmp_path / "checkpoints")
    found = find(str(directory))
    assert audit(found.store, found.manifest) == []
    state = {
        "model/w": torch.zeros(3, 4, dtype=torch.bfloat16),
        "optim/w/exp_avg": torch.zeros(3, 4),
        "step": torch.tensor(0),
    }
    checkpointer = Checkpointer(
        directory, identity={"model": "golden"}, rank=0, world_size=1, generation=3, execution="now"
    )
    loaded = checkpointer.load(state)
    assert loaded is not None
    assert (loaded.version, loaded.damaged) == (7, ())
    assert loaded.values == {"sample": 448, "nested": {"a": [1, None]}}
    counted = torch.arange(12.0).view(3, 4)
    assert torch.equal(state["model/w"], counted.bfloat16())
    assert torch.equal(state["optim/w/exp_avg"], counted / 8)
    assert state["step"] == 7
    checkpointer.save(8, state, {})
    assert checkpointer.newest_version() == 8
