"""What an agent does to its workers: start, place, interrupt, end."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from rendezvous.generation import Generation
from trainer.agent.endpoint import StoreSocket
from trainer.agent.environment import fill_arguments, script_environment
from trainer.agent.launch import Launch, Loop, Script, Stream
from trainer.agent.output import ConsoleWriter, Pump
from trainer.agent.process import Exit, Warden
from trainer.agent.worker import Worker
from trainer.channel import Message
from trainer.checkpoint.staging import own_directory
from trainer.console import console
from trainer.rank_environment import RankPosition, without_position
from trainer.supervision import Failed
from trainer.telemetry import RunDirectory

SHOW_VARIABLE = "REMESH_SHOW_WORKERS"
"""Set to anything: all that workers print also goes to the console, behind generation and rank."""


class Hands:
    """Holds the workers by the agent's own numbers. Unknown numbers are ignored: the process has
    ended and the state will hear of it."""

    def __init__(
        self,
        launch: Launch,
        directory: RunDirectory,
        *,
        ended: Callable[[Worker, Exit], None],
        heard: Callable[[Worker, Message], None],
        not_started: Callable[[int, OSError], None],
        failed: Failed,
    ) -> None:
        """`failed`: what follows where a worker can't be heard any more; `not_started`: where one
        could not be started, for want of descriptors, memory or processes."""
        self._launch = launch
        self._directory = directory
        self._ended = ended
        self._heard = heard
        self._not_started = not_started
        self._failed = failed
        self._workers: dict[int, Worker] = {}
        self._console = ConsoleWriter(console())
        self._leaves = {signal.SIGTERM, signal.SIGINT, *launch.signals}
        self._warden = Warden(self._leaves)
        self._show_all = bool(os.environ.get(SHOW_VARIABLE))
        self._errors = tempfile.TemporaryDirectory(prefix="remesh-", ignore_cleanup_errors=True)
        self.staging: Path | None = None

    def workers(self) -> Iterable[Worker]:
        return self._workers.values()

    def rank(self, number: int) -> int | None:
        worker = self._workers.get(number)
        return worker.rank if worker is not None else None

    def spawn(self, number: int, *, standby: bool) -> None:
        """Start a loop worker that has no place yet."""
        try:
            self._spawn(number, standby=standby)
        except OSError as error:
            self._not_started(number, error)

    def _spawn(self, number: int, *, standby: bool) -> None:
        kind = self._launch.workers
        assert isinstance(kind, Loop)
        env = {"OMP_NUM_THREADS": "1"} if self._launch.slots > 1 else {}
        # Its worker tells it who it is, in each generation anew.
        env |= {**without_position(os.environ), **kind.env, **self._warden.environment()}
        prefixed = Stream.BOTH if self._show_all else Stream.NONE
        shown = Stream.BOTH if kind.own else prefixed
        pump = Pump(self._console, shown=shown, prefixed=prefixed, prefix="[waiting] ")
        worker = Worker(
            number,
            kind.argv,
            env,
            pump,
            ended=self._finish,
            failed=self._failed,
            heard=self._heard,
            leaves=self._leaves,
        )
        worker.standby = standby
        if standby:
            worker.process.background(True)
        self._keep(worker)

    def promote(self, number: int) -> None:
        """A standby is to take a place."""
        worker = self._workers.get(number)
        if worker is not None and worker.standby:
            worker.standby = False
            worker.process.background(False)

    def enter(
        self,
        number: int,
        local_rank: int,
        generation: Generation,
        node: str,
        store: StoreSocket | None,
    ) -> Worker | None:
        """Give a worker its place; `store` is the socket when it hosts the generation's store.

        None where it had to be started first, and could not.
        """
        place = _position(generation, node, local_rank)
        log = self._directory.log(generation.number, place.rank)
        error_file = Path(self._errors.name, f"g{generation.number}-rank{place.rank}.json")
        if isinstance(self._launch.workers, Script):
            try:
                worker = self._start_script(self._launch.workers, number, place, error_file, store)
            except OSError as error:
                self._not_started(number, error)
                return None
        else:
            worker = self._workers[number]
        worker.state = "entering" if isinstance(self._launch.workers, Loop) else "running"
        worker.place(generation.number, place.rank, local_rank, log)
        if self._show_all:
            worker.pump.tag(f"[g{generation.number} rank{place.rank}] ")
        worker.send(
            {
                "type": "enter",
                "generation": generation.number,
                "rank": place.rank,
                "local_rank": local_rank,
                "group_rank": place.group_rank,
                "world_size": place.world_size,
                "local_world_size": place.local_world_size,
                "store": place.store,
                "hosts_store": store is not None,
                "members": [[m.node, m.slots, m.host] for m in generation.members],
                "reason": generation.reason,
                "restarts": generation.restarts,
                "max_restarts": self._launch.membership.max_restarts,
                "error_file": str(error_file),
                "job": str(self._directory.job),
                "run_directory": str(self._directory.root),
                "execution": self._launch.run_id,
                "staging": str(self.staging) if self.staging is not None else None,
            },
            [store.socket.fileno()] if store is not None and worker.talks else [],
        )
        if store is not None:
            store.release()
        return worker

    def interrupt(self, number: int, generation: int, reason: str, signal_number: int) -> None:
        """Get it out of the generation now."""
        worker = self._workers.get(number)
        if worker is None:
            return
        worker.state = "leaving"
        if worker.talks:  # it comes out alive: should it end all the same, that is a failure
            worker.send({"type": "interrupt", "generation": generation, "reason": reason})
        else:
            worker.mark_interrupted()
            worker.interrupt(signal_number)

    def boundary(
        self, number: int, generation: int, reason: str, *, save: bool, stop: bool
    ) -> None:
        """Ask it to leave at the next step boundary; `stop`: and to tell all others that the job
        stops there."""
        worker = self._workers.get(number)
        if worker is not None:
            asked = {"generation": generation, "reason": reason, "save": save, "stop": stop}
            worker.send({"type": "boundary"} | asked)

    def saved(self, directory: str, version: int, error: str) -> None:
        """Tell the worker with that staging directory what became of a save of its state.

        `error` is empty where all went well.
        """
        for worker in self._workers.values():
            if worker.local_rank is not None and own_directory(worker.local_rank) == directory:
                worker.send({"type": "saved", "version": version, "error": error})

    def dump(self, number: int) -> None:
        """Have it write its stacks into its log."""
        if (worker := self._workers.get(number)) is not None:
            worker.dump_stacks()

    def kill(self, number: int) -> None:
        """End it and its process group."""
        if (worker := self._workers.get(number)) is not None:
            worker.mark_interrupted()
            worker.kill()

    def quit(self, number: int) -> None:
        """Tell it that everything is done."""
        if (worker := self._workers.get(number)) is not None:
            worker.mark_interrupted()
            worker.send({"type": "exit"})

    def close(self) -> None:
        """Kill whatever is left, without a word of its end, and stop writing to the console."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()
        self._console.close()
        self._warden.close()
        self._errors.cleanup()

    def _start_script(
        self,
        script: Script,
        number: int,
        place: RankPosition,
        error_file: Path,
        store: StoreSocket | None,
    ) -> Worker:
        env = script_environment(
            {**os.environ, **self._warden.environment()},
            script,
            place,
            run_id=self._launch.run_id,
            max_restarts=self._launch.membership.max_restarts,
            error_file=str(error_file),
        )
        if store is not None:
            store.release()
        argv = fill_arguments(script.argv, place.local_rank)
        pump = self._pump(place, script.role)
        worker = Worker(number, argv, env, pump, ended=self._finish, failed=self._failed)
        worker.error_file = error_file
        self._keep(worker)
        return worker

    def _pump(self, place: RankPosition, role: str) -> Pump:
        console = self._launch.console
        redirected = console.redirects.get(place.local_rank, Stream.NONE)
        tee = console.tee.get(place.local_rank, Stream.NONE)
        shown = Stream.BOTH & ~redirected | tee
        if console.ranks is not None and place.local_rank not in console.ranks:
            shown = Stream.NONE
        prefix = console.prefix or "[${role_name}${local_rank}]:"
        for name, value in (
            ("role_name", role),
            ("local_rank", place.local_rank),
            ("rank", place.rank),
        ):
            prefix = prefix.replace(f"${{{name}}}", str(value))
        return Pump(
            self._console,
            shown=shown,
            prefixed=shown if self._show_all else tee & shown,
            separate=redirected | tee,
            prefix=prefix,
        )

    def _keep(self, worker: Worker) -> None:
        self._workers[worker.number] = worker
        self._warden.add(worker.pid)

    def _finish(self, worker: Worker, how: Exit) -> None:
        if self._workers.pop(worker.number, None) is None:
            # Killed by `close`: it may be reaped when nobody is there any more to be told.
            return
        self._warden.remove(worker.pid)
        self._ended(worker, how)


def _position(generation: Generation, node: str, local_rank: int) -> RankPosition:
    group_rank = generation.group_rank(node)
    first = generation.first_rank(node)
    assert group_rank is not None
    assert first is not None
    return RankPosition(
        rank=first + local_rank,
        local_rank=local_rank,
        group_rank=group_rank,
        world_size=generation.world_size,
        local_world_size=generation.members[group_rank].slots,
        group_world_size=len(generation.members),
        store=generation.store_endpoint,
        restarts=generation.restarts,
    )
