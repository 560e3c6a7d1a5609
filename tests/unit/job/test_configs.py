"""The jobs in configs/ load, and what they name is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.job import load

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_the_promised_ones_are_there():
    names = {path.stem for path in CONFIGS}
    assert names >= {"quickstart", "llama3-8b", "llama3-405b", "spot", "script", "elastic-loop"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_loads_and_says_what_it_is(path):
    job = load(path)
    assert job.name == path.stem
    assert path.read_text().startswith("# ")
    assert job.run.id is None


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_scripts_are_there(path):
    entrypoint = load(path).entrypoint
    if entrypoint is not None and entrypoint.script is not None:
        assert (ROOT / entrypoint.script).is_file()


def test_the_quickstart_is_what_the_manual_promises():
    job = load(ROOT / "configs" / "quickstart.yaml")
    assert (job.train.pieces, job.train.microbatches) == (12, 4)
    assert job.train.exact
    assert job.train.clip is not None
    assert job.model.dropout > 0
    assert job.data.path is None
    for pipeline in (1, 2, 4):
        for data in (1, 2, 3, 4):
            overrides = [f"parallel.pipeline={pipeline}", f"parallel.data={data}"]
            assert load(ROOT / "configs" / "quickstart.yaml", overrides).pieces() == 12
