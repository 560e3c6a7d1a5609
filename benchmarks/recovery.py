"""How long a run stands still when a worker dies, a node is lost, comes back, or leaves.

    python benchmarks/recovery.py                          everything that is installed; hours
    python benchmarks/recovery.py --quick                  each once, without compile
    python benchmarks/recovery.py --scenarios worker --systems remesh torchrun-tuned \\
        --repeats 2 --record results.jsonl                 a portion
    python benchmarks/recovery.py --report results.jsonl   the table of all portions

Two nodes of two ranks on this machine, gloo, one model and one checkpoint interval for all. The
systems take turns. A worker of the second node is SIGKILLed in the middle between two checkpoints;
or the node is (its agent and all below it at once), then is started again, then gets SIGTERM.

    counted   seconds from the event to the next step that had not been done before
    repeated  steps that were done again
    pause     the longest time between two steps

torchrun runs with its shared store off (as it comes most of its restarts hang), with its own timers
and with short ones. NVRx and torchft are used where they are installed:

    python -m venv PEERS
    PEERS/bin/pip install -e . nvidia-resiliency-ext==0.4.1 torchft-nightly
    python benchmarks/recovery.py --peer-python PEERS/bin/python

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

# Beside this file lie others named as packages are.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.elastic.crew import Crew  # noqa: E402
from benchmarks.elastic.in_place import Nvrx, Torchft  # noqa: E402
from benchmarks.elastic.job import job  # noqa: E402
from benchmarks.elastic.remesh import Remesh, RemeshReplicas, RemeshSeldom  # noqa: E402
from benchmarks.elastic.report import summarize, table  # noqa: E402
from benchmarks.elastic.scenario import Measured, node_story, worker_death  # noqa: E402
from benchmarks.elastic.system import System  # noqa: E402
from benchmarks.elastic.torchrun import Torchrun, TunedTorchrun  # noqa: E402

SYSTEMS: dict[str, type[System]] = {
    "remesh": Remesh,
    "remesh-seldom": RemeshSeldom,
    "remesh-replicas": RemeshReplicas,
    "torchrun": Torchrun,
    "torchrun-tuned": TunedTorchrun,
    "nvrx": Nvrx,
    "torchft": Torchft,
}
SCENARIOS: dict[str, Callable[[System], Iterator[Measured]]] = {
    "worker": worker_death,
    "node": node_story,
}
PACKAGES = {"nvrx": "nvidia_resiliency_ext.inprocess", "torchft": "torchft"}


def installed(name: str, python: str) -> bool:
    package = PACKAGES.get(name)
    command = [python, "-c", f"import {package}"]
    return (
        package is None or not subprocess.run(command, capture_output=True, check=False).returncode
    )


def run(
    name: str, scenario: str, python: str, room: Path, cache: Path, *, compiled: bool
) -> Iterator[dict[str, Any]]:
    """One run of one system; a record of each event in it."""
    with Crew(room, TORCHINDUCTOR_CACHE_DIR=str(cache)) as crew:
        path = room / "job.yaml"
        path.write_text(yaml.safe_dump(job(compiled=compiled)))
        for measured in SCENARIOS[scenario](SYSTEMS[name](crew, path, python)):
            yield {"system": name, "compiled": compiled, **measured.record()}


def measure(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    pythons = {name: given.peer_python if name in PACKAGES else sys.executable for name in SYSTEMS}
    systems = [name for name in given.systems if installed(name, pythons[name])]
    for name in given.systems:
        if name not in systems:
            print(f"{name}: not installed for {pythons[name]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="remesh-recovery-") as folder:
        work = given.work or Path(folder)
        rooms = Path(tempfile.mkdtemp(prefix="rooms-", dir=work))
        for compiled in {"no": [False], "yes": [True], "both": [False, True]}[given.compiled]:
            for turn in range(given.repeats):
                for scenario in given.scenarios:
                    for name in systems:
                        room = rooms / f"{scenario}-{name}-{turn}{'-compiled' * compiled}"
                        yield from run(
                            name, scenario, pythons[name], room, work / "cache", compiled=compiled
                        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--compiled", choices=("no", "yes", "both"), default="both")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repeat, without compile")
    parser.add_argument("--peer-python", default=sys.executable, help="has NVRx and torchft")
    parser.add_argument("--work", type=Path, help="keeps the runs' files and the compile cache")
    parser.add_argument("--record", type=Path, help="append what was measured to this file")
    parser.add_argument("--report", type=Path, nargs="+", help="measure nothing; read these files")
    given = parser.parse_args()
    # So that what was started ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if given.quick:
        given.repeats, given.compiled = 1, "no"
    if given.report:
        lines = [line for path in given.report for line in path.read_text().splitlines()]
        records = [json.loads(line) for line in lines]
    else:
        records = []
        for record in measure(given):
            records.append(record)
            print(json.dumps(record), flush=True)
            if given.record:
                with given.record.open("a") as file:
                    file.write(json.dumps(record) + "\n")
    summary = summarize(records)
    print(table(summary))
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
