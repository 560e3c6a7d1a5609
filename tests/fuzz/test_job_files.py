"""A job file, and what is set over it."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.fuzz.mutations import altered, torn
from tests.fuzz.trial import ROUNDS, trial
from trainer.errors import JobError
from trainer.job import load
from trainer.job.yaml12 import parse

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
KEYS = ("train.steps", "elastic.nodes", "model.args.a", "parallel", "run.seed", "a..b", "")
LONGEST = 1200
"""Characters of a line of a complaint: where, a value cut short, what it must be."""


@ROUNDS
def test_job_files(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "job.yaml"
    texts = [file.read_bytes() for file in FILES]
    values = [parse(text.decode(), "it")[0] for text in texts]

    def make(rng: random.Random) -> tuple[bytes, list[str]]:
        over: list[str] = []
        if rng.random() < 0.3:
            value = torn(b"{a: [1, 2h], b: *c}", rng).decode("latin-1")
            over = [rng.choice(KEYS) + rng.choice(["=", "=", ""]) + value]
        if rng.random() < 0.5:
            return torn(rng.choice(texts), rng), over
        return json.dumps(altered(rng.choice(values), rng)).encode(), over

    def read(given: tuple[bytes, list[str]]) -> None:
        data, over = given
        path.write_bytes(data)
        try:
            load(path, over)
        except JobError as error:
            longest = max(map(len, str(error).splitlines()))
            raise (error if longest < LONGEST else AssertionError(str(error))) from None

    trial("job files", make, read, JobError, count=300, rounds=rounds)
