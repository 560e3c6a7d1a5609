"""Two ranks cut the decoder over tp: losses and gradients are the whole decoder's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WORKER = Path(__file__).with_name("tensor_worker.py")
ROOT = Path(__file__).parents[3]


def test_every_way_to_cut_the_decoder_gives_its_losses_and_gradients(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    workers = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=240) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0, 0], outputs[0][1] + outputs[1][1]
    cases = [json.loads(line) for line in outputs[0][0].splitlines()]
    assert len(cases) == 4
    for case in cases:
        assert case["loss"] < 1e-5, case
        assert case["gradient"] < 1e-4, case
