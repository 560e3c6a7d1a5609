"""What lies in a checkpoint's log."""

from __future__ import annotations

import json
import random
from pathlib import Path

import xxhash

from tests.fuzz.mutations import altered, torn
from tests.fuzz.trial import ROUNDS, trial
from trainer.checkpoint.manifest import decode, decode_summary
from trainer.errors import CheckpointDamaged

GOLDEN = Path(__file__).parents[1] / "unit/checkpoint/golden/format-1/log/00000002.json"


@ROUNDS
def test_manifests(rounds: int) -> None:
    golden = GOLDEN.read_bytes()
    value = json.loads(golden)
    del value["xxh3"]

    def make(rng: random.Random) -> bytes:
        if rng.random() < 0.1:
            return torn(golden, rng)
        # With a checksum that fits: what is wrong was written so.
        made = altered(value, rng)
        if rng.random() < 0.7:
            made = {**value, **made} if isinstance(made, dict) else made
        text = json.dumps(made)
        text = torn(text.encode(), rng).decode("latin-1") if rng.random() < 0.1 else text
        body = text[:-1].encode() + b",\n"
        return body + f'"xxh3":"{xxhash.xxh3_64_hexdigest(body)}"}}\n'.encode()

    def read(data: bytes) -> None:
        decode_summary(data.partition(b"\n")[0], "m")
        decode(data, "m")

    trial("manifests", make, read, CheckpointDamaged, count=4000, rounds=rounds)
