"""What an agent writes into the run directory, and what it shows of it.

Several agents may share one directory. Each appends its own events and keeps its own part of
the status; what belongs to the whole (metrics, generations, status, summary) is written by the
keeper: the agent whose node comes first in the newest generation.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from rendezvous.generation import Generation
from trainer.agent.launch import Launch, Script
from trainer.agent.process import Exit
from trainer.agent.vital_signs import StoodStill
from trainer.agent.worker import Worker
from trainer.channel import Message
from trainer.signals import signal_name
from trainer.telemetry import Ledger, Progress, RunDirectory
from trainer.telemetry.documents import HEAD
from trainer.telemetry.endings import NodeEnd, writes_summary
from trainer.telemetry.files import LineFile, metric_lines, read_json, read_lines, replace_json
from trainer.telemetry.pen import Pen
from trainer.telemetry.progress import duration, mesh_text
from trainer.telemetry.status import write_part, write_status
from trainer.telemetry.turn import Turn

log = logging.getLogger(__name__)

STATUS_SECONDS = 0.5
NOTICE_SECONDS = 5.0
"""Who watches is told of so long a standstill; of a shorter one only the events tell."""
OF_THE_RUN = ("generation.begin", "generation.end", "generation.stepped")
"""Events that one agent tells for all."""


class Record:
    """One agent's pen. All methods return quickly; `flush_status` is called now and then."""

    def __init__(
        self, launch: Launch, directory: RunDirectory, node: str, host: str, progress: Progress
    ) -> None:
        self._launch = launch
        self._directory = directory
        self._node = node
        self._host = host
        self._progress = progress
        self._pen = Pen()
        self._turn_missed = False
        """Whether the turn is to be taken still: it could not be written when it was ours."""
        self._turn = Turn(directory.agents / ".keeper", f"{node} {os.getpid()} {uuid.uuid4().hex}")
        self._others_step = 0
        """The last step that another agent had written when the turn was taken back from it."""
        self._events = LineFile(directory.events)
        self._metrics: LineFile | None = None
        self._ledger = Ledger()
        self._generation: Generation | None = None
        self._orphaned = False
        self._mesh = ""
        self._announced = 0
        self._dirty = True
        self._step_seen = 0
        self._stepped = 0
        self._written_at = float("-inf")
        self._began = time.time()
        self._earlier_seconds = 0.0
        self._earlier = read_json(directory.status, HEAD) or {}
        self._summary: dict[str, Any] = {}
        self._node_end: NodeEnd | None = None
        """How this node's part in the newest generation ended; None while it goes on."""

    @property
    def node_end(self) -> NodeEnd | None:
        """How this node's part in the newest generation ended, for agents that hear no service."""
        return self._node_end

    @node_end.setter
    def node_end(self, end: NodeEnd) -> None:
        self._node_end = end
        self._dirty = True

    @property
    def keeper(self) -> bool:
        """Whether this node comes first, or waits and can't know whether that one is there."""
        if self._generation is None:
            return False
        return self._orphaned or self._generation.group_rank(self._node) == 0

    @property
    def step(self) -> int:
        """The last step that this node's workers reported."""
        return self._step_seen

    @property
    def last_generation(self) -> int:
        """The last generation of an earlier start of this run; 0 when this is the first."""
        return int(self._earlier.get("generation") or 0)

    def event(self, name: str, /, *, rank: int | None = None, **fields: Any) -> None:
        """Append one event; `generation` is the newest unless given."""
        number = self._generation.number if self._generation is not None else 0
        head = {"time": time.time(), "event": name}
        head |= {"generation": fields.pop("generation", number), "node": self._node, "rank": rank}
        write = partial(self._events.append, head | fields)
        self._pen.write(partial(self._for_all, write) if name in OF_THE_RUN else write)
        self._dirty = True

    def notice(self, text: str) -> None:
        """Show a line to the person who watches."""
        self._progress.notice(text)

    def generation(self, generation: Generation) -> None:
        """A generation was published."""
        was_keeper, last = self.keeper, self._generation
        self._generation, self._orphaned, self._node_end = generation, False, None
        self._mesh = self._launch.mesh(generation) if self._launch.mesh is not None else ""
        self._progress.meter.generation = generation.number
        self._progress.meter.mesh = self._mesh
        self._dirty = True
        self._greet(generation, first=last is None)
        if not self.keeper:
            if was_keeper and self._metrics is not None:
                self._pen.write(self._metrics.close)
                self._metrics = None
            return
        self._take_over(begins=last is None and generation.number == self.last_generation + 1)
        if last is None and generation.number == self.last_generation + 1:
            self._pen.wait()
            before = read_lines(self._directory.events)
            self.event(
                "run.begin",
                run_id=self._launch.run_id,
                resumed=any(record.get("event") == "run.begin" for record in before),
                step=self._ledger.last_step,
            )
        elif last is not None:
            self.event("generation.end", generation=last.number, reason=generation.reason)
        self.event(
            "generation.begin",
            world_size=generation.world_size,
            mesh=self._mesh,
            nodes=[member.node for member in generation.members],
            reason=generation.reason,
            restarts=generation.restarts,
        )

    def _greet(self, generation: Generation, *, first: bool) -> None:
        """On the console of every node: who waited there is told that the waiting is over.

        Of a script's first generation nothing is shown, as under torchrun.
        """
        if not first or self._launch.mesh is not None:
            size = f"{generation.world_size} rank{'s' * (generation.world_size != 1)}"
            mesh = f" ({self._mesh})" if self._mesh else ""
            self.notice(f"generation {generation.number}: {size}{mesh}: {generation.reason}")

    def orphaned(self) -> None:
        """No generation stands, and who kept the record may be lost: every node that waits does."""
        if self._generation is None or self._orphaned:
            return
        self._orphaned = True
        if self._metrics is None:
            self._take_over(begins=False)
        self._dirty = True

    def _take_over(self, *, begins: bool) -> None:
        """Take the turn, and go on from what is written if another has written meanwhile.

        `begins`: this start of the run begins with it.
        """
        had = self._metrics is not None
        # Taken before the lines are read: from here on nobody adds to them but we.
        try:
            had = had and self._turn.ours
            if not had:
                self._pen.wait()
            self._take_turn(anyway=begins)
            self._turn_missed = False
        except OSError as error:
            log.error("%s can't be written yet: %s", self._directory.root, error)
            self._turn_missed = True
        if had:
            return
        if self._metrics is not None:
            self._metrics.close()
        self._metrics = LineFile(self._directory.metrics)
        try:
            self._ledger = self._ledger.renewed(metric_lines(self._directory.metrics))
        except ValueError as error:
            log.error("%s; the record goes on from what this agent knows", error)
        head = read_json(self._directory.status, HEAD) or {}
        lost = int(head.get("lost_steps") or 0)
        self._ledger.lost_steps = max(self._ledger.lost_steps, lost)
        if head.get("seen_still_seconds") is not None:
            # Of those who wrote: a node that the others went on without has stood still alone.
            self._ledger.seen_still = float(head["seen_still_seconds"])
        if begins:
            self._earlier_seconds = float(head.get("wall_seconds") or 0.0)
        else:
            self._began = float(head.get("began") or self._began)
            self._earlier_seconds = float(head.get("earlier_seconds") or 0.0)

    def _take_turn(self, *, anyway: bool = False) -> None:
        number = 0 if self._generation is None else self._generation.number
        self._turn.take(number, waits=self._orphaned, anyway=anyway)

    def stood_still(self, found: StoodStill) -> None:
        """For some time nothing went forward on this node."""
        self.event("node.stood_still", seconds=found.seconds, reason=found.why)
        if found.seconds >= NOTICE_SECONDS:
            self.notice(f"stood still for {duration(found.seconds)}: {found.why}")
        if self.keeper:
            self._ledger.seen_still += found.seconds

    def began(self, worker: Worker) -> None:
        """A worker was given its place."""
        self.event(
            "worker.begin",
            rank=worker.rank,
            generation=worker.generation,
            local_rank=worker.local_rank,
            pid=worker.pid,
        )

    def exited(self, worker: Worker, how: Exit, *, expected: bool) -> None:
        """A worker's process ended."""
        self.event(
            "worker.exit",
            rank=worker.rank,
            generation=worker.generation or 0,
            pid=worker.pid,
            exit_code=how.code,
            signal=signal_name(how.signal) if how.signal else None,
            expected=expected,
        )

    def heard(self, worker: Worker, message: Message) -> None:
        """A loop worker's report."""
        match message["type"]:
            case "step":
                self._step(message)
            case "event":
                fields = {k: v for k, v in message.items() if k not in ("type", "event", "rank")}
                name = str(message.get("event", "worker.event"))
                self.event(name, rank=worker.rank, **{"generation": worker.generation} | fields)
                if isinstance(fields.get("notice"), str):
                    self.notice(fields["notice"])
            case "entered":
                if worker.rank == 0 and message.get("mesh"):
                    self._mesh = mesh_text(message["mesh"])
                    self._progress.meter.mesh = self._mesh
                self.event(
                    "state.restored",
                    rank=worker.rank,
                    generation=message["generation"],
                    source=message.get("source"),
                    version=message.get("version"),
                    seconds=message.get("seconds"),
                )
            case "left":
                self.event(
                    "worker.left",
                    rank=worker.rank,
                    generation=message["generation"],
                    version=message["version"],
                    reason=message.get("reason", ""),
                )
            case "finished":
                # Every rank reports its end; what is known of the whole may be known to one only.
                found = {k: v for k, v in (message.get("summary") or {}).items() if v}
                self._summary |= found
                self._dirty = True
            case _:
                self._dirty = True

    def flush_status(self, state: str, workers: Iterable[Worker], *, force: bool = False) -> bool:
        """Write the status if something changed and the last writing is some time ago.

        True when it is to be written.
        """
        now = time.monotonic()
        due = self._dirty and now - self._written_at >= STATUS_SECONDS and not self._pen.behind
        if not due and not force:
            return False
        self._dirty = False
        self._written_at = now
        generation = self._generation
        part = {
            "node": self._node,
            "pid": os.getpid(),
            "host": self._host,
            "state": state,
            "generation": generation.number if generation is not None else 0,
            "time": time.time(),
            "end": None if self._node_end is None else self._node_end.to_json(),
            "workers": [
                {
                    "rank": worker.rank,
                    "local_rank": worker.local_rank,
                    "pid": worker.pid,
                    "state": _shown(worker),
                    "generation": worker.generation,
                }
                for worker in workers
            ],
        }
        self._pen.write(partial(write_part, self._directory, self._node, part))
        if self.keeper:
            self._pen.write(
                partial(self._in_turn, write_status, self._directory, self._head(state))
            )
        return True

    def end(
        self, status: str, reason: str, *, whole: bool, first: NodeEnd | None = None
    ) -> dict[str, Any] | None:
        """The last words. `whole`: the run is over, not only this node's part in it.

        `first` is how the first node of the generation has ended, where that is known.
        """
        if self._generation is None:
            # Nobody's words about the run are replaced by a node that had no part in it.
            whole = whole and not self._directory.status.exists()
        elif whole:
            number = self._generation.number
            whole = writes_summary(
                first if first is not None and first.generation >= number else None,
                is_first=self._generation.group_rank(self._node) == 0,
                waits=self._orphaned,
                written=_generations(read_json(self._directory.summary)) >= number,
            )
            if whole and not self.keeper:
                self.orphaned()
        if not whole:
            self.event("node.end", status=status, reason=reason)
            return None
        if self._generation is not None:
            self.event("generation.end", reason=reason)
        summary = self._summarize(status, reason)
        self._pen.write(partial(replace_json, self._directory.summary, summary))
        self.event("run.end", status=status, reason=reason)
        return summary

    def close(self) -> None:
        """Close the files and leave the last progress line on the screen."""
        self._progress.close()
        self._pen.close()
        if self._pen.lost:
            log.error(
                "the run's record in %s lacks %d entries: %s",
                self._directory.root,
                self._pen.lost,
                self._pen.why,
            )
        self._events.close()
        if self._metrics is not None:
            self._metrics.close()

    def _in_turn(self, write: Callable[..., object], *arguments: object) -> None:
        """Write what has one writer, unless another agent has taken our place unheard."""
        if self._turn_missed:
            self._take_turn()
            self._turn_missed = False
        if self._is_our_turn():
            write(*arguments)

    def _for_all(self, write: Callable[[], object]) -> None:
        """Append what one agent tells for all, also where the turn can't be written."""
        if self._turn_missed or self._is_our_turn():
            write()

    def _is_our_turn(self) -> bool:
        if self._turn.ours:
            return True
        if not self._turn.regain():
            return False
        lines = metric_lines(self._directory.metrics)
        self._others_step = max((int(line.get("step", 0)) for line in lines), default=0)
        return True

    def _write_step(self, file: LineFile, line: Mapping[str, Any]) -> None:
        if line["step"] > self._others_step:
            file.append(line)

    def _step(self, message: Message) -> None:
        self._ledger.remember(message)
        step, newer = int(message["step"]), int(message["step"]) > self._step_seen
        self._step_seen = step
        self._dirty = True
        if not self.keeper:
            # What the whole has got to is the keeper's to write; here it is only shown, once.
            if newer and not isinstance(self._launch.workers, Script):
                self._progress.step(message)
            return
        if self._metrics is None or "loss" not in message:
            return
        if message.get("step_seconds") and self._stepped < message["generation"]:
            self._stepped = message["generation"]
            self.event("generation.stepped", generation=self._stepped, step=message["step"])
        for line in self._ledger.offer(message):
            self._pen.write(partial(self._in_turn, self._write_step, self._metrics, line))
            self._progress.step(line)

    def _head(self, state: str) -> dict[str, Any]:
        generation, shares = self._generation, self._ledger.shares(self._wall_seconds())
        return {
            "run_id": self._launch.run_id,
            "state": state,
            "generation": generation.number if generation is not None else 0,
            "reason": generation.reason if generation is not None else "",
            "rendezvous": {
                "endpoints": list(self._launch.membership.endpoints),
                "files": self._launch.membership.credentials,
            },
            "world_size": generation.world_size if generation is not None else 0,
            "restarts": generation.restarts if generation is not None else 0,
            "mesh": self._mesh,
            "step": self._ledger.last_step,
            "total_steps": self._progress.meter.total_steps,
            "loss": self._ledger.last_loss,
            "lost_steps": self._ledger.lost_steps,
            "began": self._began,
            "earlier_seconds": self._earlier_seconds,
            "wall_seconds": shares.wall,
            "good_seconds": shares.good,
            "stood_still_seconds": shares.stood_still,
            "seen_still_seconds": self._ledger.seen_still,
        }

    def _summarize(self, status: str, reason: str) -> dict[str, Any]:
        ledger, generation = self._ledger, self._generation
        shares = ledger.shares(self._wall_seconds())
        counts: dict[str, Any] = {
            "run_id": self._launch.run_id,
            "status": status,
            "reason": reason,
            "steps": ledger.last_step,
            "final_loss": ledger.last_loss,
            "weights_sha256": None,
            "generations": generation.number if generation is not None else 0,
            "restarts": generation.restarts if generation is not None else 0,
            "lost_steps": ledger.lost_steps,
            "skipped_steps": 0,
            "rollbacks": 0,
            "tokens_per_second": ledger.tokens_per_second(shares.wall),
            "goodput": shares.goodput,
            "wall_seconds": shares.wall,
            "good_seconds": shares.good,
            "stood_still_seconds": shares.stood_still,
            "other_seconds": shares.other,
        }
        return counts | self._summary | {"status": status}

    def _wall_seconds(self) -> float:
        """Of all starts of this run together; the time between them is nobody's."""
        return self._earlier_seconds + time.time() - self._began


def _generations(summary: Mapping[str, Any] | None) -> int:
    """Of the start that a summary is about; 0 where there is none."""
    found = (summary or {}).get("generations")
    return found if isinstance(found, int) else 0


def _shown(worker: Worker) -> str:
    """A standby that is still importing can't take over yet."""
    return "standby" if worker.standby and worker.state == "ready" else worker.state
