"""`remesh logs RUN` for a run of this machine: what its ranks print, from the log files."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from trainer.command.parser import Parser
from trainer.errors import JobError
from trainer.outside.numbers import whole_flag
from trainer.telemetry import RunDirectory
from trainer.telemetry.documents import START
from trainer.telemetry.files import read_document
from trainer.telemetry.runs import named_run, newest_run, read_run

LOOK_SECONDS = 0.2
"""Between two looks for more."""
CHUNK_BYTES = 64 << 10
"""Read at once, from either end of a file."""


def parser() -> Parser:
    """Takes one run, and what of its logs is wanted."""
    made = Parser(
        prog="remesh logs",
        example="remesh logs quickstart --rank 1 --tail 20 -f",
        cluster="logs",
        description="Show what a rank of a run on this machine prints: rank 0 of the newest "
        "generation unless told. -f goes on, from generation to generation, until the run ends.",
    )
    made.add_argument(
        "run", nargs="?", metavar="RUN", help="a run directory or id (default: the newest in runs/)"
    )
    made.add_argument(
        "--rank", type=whole_flag(0), default=0, metavar="N", help="(default: %(default)s)"
    )
    made.add_argument("--generation", type=whole_flag(0), metavar="G", help="(default: the newest)")
    made.add_argument("--tail", type=whole_flag(0), metavar="N", help="begin with the last N lines")
    made.add_argument("-f", "--follow", action="store_true", help="go on as more comes")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints; 0 when there is a log. Raises JobError when there is none."""
    takes = parser()
    parsed = takes.parse_args(argv)
    if parsed.follow and parsed.generation is not None:
        takes.error("--follow goes on from generation to generation; leave out --generation")
    root = named_run(parsed.run) if parsed.run else newest_run()
    logs = log_folder(root)
    there = log_files(logs, parsed.rank)
    number = max(there, default=0) if parsed.generation is None else parsed.generation
    if number not in there:
        where = f" in generation {parsed.generation}" if parsed.generation is not None else ""
        raise JobError(f"rank {parsed.rank} has no log{where} in {logs}")
    with there[number].open("rb") as file:
        if parsed.tail is not None:
            seek_lines(file, parsed.tail)
        for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
            _show(chunk)
        if parsed.follow:
            for chunk in _Follower(root, logs, parsed.rank, number).chunks(file):
                _show(chunk)
    return 0


def log_folder(root: Path) -> Path:
    """Where a run's logs lie: in its directory, unless --log-dir said otherwise."""
    elsewhere = read_start(root).get("logs")
    return RunDirectory(root).logs if elsewhere is None else Path(elsewhere)


def read_start(root: Path) -> dict[str, Any]:
    """How the run was started, as far as that is known. Raises JobError for a damaged file."""
    try:
        return read_document(RunDirectory(root).start, START) or {}
    except ValueError as error:
        raise JobError(str(error)) from None


def log_files(logs: Path, rank: int) -> dict[int, Path]:
    """The rank's log of each generation."""
    found = {}
    for path in logs.glob(f"g*/rank{rank}.log"):
        number = path.parent.name.removeprefix("g")
        if number.isascii() and number.isdigit() and len(number) < 20:
            found[int(number)] = path
    return found


def seek_lines(file: BinaryIO, count: int) -> None:
    """Go to where the last `count` lines begin; a line without an end counts too."""
    end = file.seek(0, 2)
    position, seen = end, b""
    while position > 0 and seen[:-1].count(b"\n") < count:
        position = max(0, position - CHUNK_BYTES)
        file.seek(position)
        seen = file.read(end - position)
    lines = seen.splitlines(keepends=True)
    file.seek(end - sum(map(len, lines[max(0, len(lines) - count) :])))


@dataclass(slots=True)
class _Follower:
    """One rank's logs from the generation `number` on, until the run is over."""

    root: Path
    logs: Path
    rank: int
    number: int
    """The generation that is being read."""
    _open: list[BinaryIO] = field(default_factory=list)

    def chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """What is written after what was read of `file`."""
        while True:
            # Looked at before the file: what is written until the end is read then.
            run = read_run(self.root, time.time())
            newer = [n for n in log_files(self.logs, self.rank) if n > self.number]
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            if newer:
                self.number = min(newer)
                file = log_files(self.logs, self.rank)[self.number].open("rb")
                self._open.append(file)
                yield f"--- generation {self.number} ---\n".encode()
            elif run is None or not run.live:
                break
            else:
                time.sleep(LOOK_SECONDS)
        for other in self._open:
            other.close()


def _show(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()
