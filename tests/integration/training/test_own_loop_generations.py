"""A user's loop over several generations, in this very process: the test plays its agent.

One rank, so that no other process is needed; what becomes of a step in doubt is told by a survivor
that is made up.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard

import trainer
from tests.integration.training.own_zoo import LOOPS
from trainer.channel import LineBuffer, Message, Outbox, WorkerEnd
from trainer.job import dump, from_mapping
from trainer.rank_environment import VARIABLES
from trainer.worker.loop import live
from trainer.worker.own import program as own_program
from trainer.worker.own import run as own_run
from trainer.worker.own.program import OwnLoop
from trainer.worker.own.tally import Account, Tally

STEPS = 20
JOB = {
    "entrypoint": {"script": "train.py", "elastic": True},
    "checkpoint": {"every": 0, "at_end": False},
    "elastic": {"mirror_every": 4, "nproc_per_node": 1},
}


class Agent:
    """Sends the only rank into the next generation whenever it has left one."""

    def __init__(self, directory: Path, interrupt_after: tuple[int, ...] = ()) -> None:
        self.directory = directory
        self.said: list[Message] = []
        self._interrupt_after = list(interrupt_after)
        self._job = directory / "job.yaml"
        self._job.write_text(dump(from_mapping(JOB)))
        self._ours, self._theirs = socket.socketpair()
        self._out = Outbox(self._ours)
        self._generation = 0

    def serve(self, function: Callable[[trainer.Run], None]) -> int:
        listener = threading.Thread(target=self._listen)
        listener.start()
        self._enter()
        code = live(WorkerEnd(self._theirs), lambda order: OwnLoop.of(function, order))
        listener.join()
        self._ours.close()
        for thread in threading.enumerate():
            if thread.name == "inbox":
                thread.join()
        self._theirs.close()
        return code

    def said_of(self, kind: str) -> list[Message]:
        return [message for message in self.said if message["type"] == kind]

    def _listen(self) -> None:
        lines = LineBuffer()
        while True:
            for message in lines.feed(self._ours.recv(1 << 16)):
                self.said.append(message)
                wanted = self._interrupt_after
                if message["type"] == "step" and wanted and message["step"] >= wanted[0]:
                    wanted.pop(0)
                    self._tell(
                        {"type": "interrupt", "generation": self._generation, "reason": "so"}
                    )
                elif message["type"] == "left":
                    self._enter()
                elif message["type"] in ("finished", "failed"):
                    self._tell({"type": "exit"})
                    return

    def _tell(self, message: Message, *descriptors: int) -> None:
        self._out.put(message, descriptors)
        self._out.flush()

    def _enter(self) -> None:
        self._generation += 1
        with socket.create_server(("127.0.0.1", 0)) as store:
            order = {
                "type": "enter",
                "generation": self._generation,
                "rank": 0,
                "local_rank": 0,
                "group_rank": 0,
                "world_size": 1,
                "local_world_size": 1,
                "store": f"127.0.0.1:{store.getsockname()[1]}",
                "members": [["node", 1, "127.0.0.1"]],
                "reason": "so",
                "job": str(self._job),
                "run_directory": str(self.directory),
                "staging": str(self.directory / "staging"),
            }
            self._tell(order, store.fileno())


class Loop:
    """What a user might write, and the turns that came to their end."""

    def __init__(self) -> None:
        self.ended: list[tuple[int, int]] = []

    def __call__(self, run: trainer.Run) -> None:
        model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        fully_shard(model, mesh=run.mesh)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        run.state(model, optimizer, scheduler=scheduler)
        for step in run.steps(STEPS):
            loss = model(torch.randn(4, 8)).square().mean()
            loss.backward()
            run.log(loss=loss, tokens=4)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            self.ended.append((run.generation, step))


@pytest.fixture(autouse=True)
def outlive_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    outlive(monkeypatch)


def outlive(patch: pytest.MonkeyPatch) -> None:
    """A worker ends with its agent, and has its environment for itself; this process doesn't."""
    patch.setattr(os, "_exit", lambda code: None)
    for name in VARIABLES:
        patch.setenv(name, "somebody else's")


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        outlive(patch)
        agent, loop = Agent(tmp_path_factory.mktemp("quiet")), Loop()
        assert agent.serve(loop) == 0
    assert loop.ended == [(1, step) for step in range(STEPS)]
    return weights(agent)


def weights(agent: Agent) -> str:
    (finished,) = agent.said_of("finished")
    assert finished["summary"]["steps"] == STEPS
    return finished["summary"]["weights_sha256"]


def test_it_goes_on_where_it_was(tmp_path: Path, quiet: str) -> None:
    agent, loop = Agent(tmp_path, interrupt_after=(5, 12)), Loop()
    assert agent.serve(loop) == 0
    assert weights(agent) == quiet
    assert [step for _, step in loop.ended] == list(range(STEPS))
    assert [message["source"] for message in agent.said_of("entered")] == ["init", "peers", "peers"]
    told = [message for message in agent.said_of("step") if not message.get("again")]
    assert [message["step"] for message in told] == list(range(1, STEPS + 1))
    assert all(message["tokens"] == 4 for message in told)


OF_THE_ZOO = ("adds_up", "adds_up_and_zeroes_first", "rarely", "thaws", "sparse", "averaged")
"""Loops whose state is not of the same tensors after every turn, and one with buffers and more."""


@pytest.mark.parametrize("name", OF_THE_ZOO)
def test_a_state_that_grows_is_handed_on_at_every_version(tmp_path: Path, name: str) -> None:
    """An interrupt after each step, or a later one where this process is quicker than it is heard.
    The next generation takes the state from this one's memory."""
    found = []
    for interrupts in ((), tuple(range(1, 7))):
        directory = tmp_path / str(len(interrupts))
        directory.mkdir()
        agent = Agent(directory, interrupt_after=interrupts)
        assert agent.serve(lambda run: LOOPS[name](run, 8, [])) == 0
        (finished,) = agent.said_of("finished")
        found.append(finished["summary"])
        entered = [message["source"] for message in agent.said_of("entered")]
        assert entered[0] == "init"
        assert set(entered[1:]) == ({"peers"} if interrupts else set())
    assert found[0] == found[1]


@pytest.mark.parametrize("committed", [False, True])
def test_a_step_in_doubt_is_ended_or_done_again(
    tmp_path: Path, quiet: str, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    agent, loop = Agent(tmp_path), Loop()
    calls = 0

    def count(*arguments):
        nonlocal calls
        calls += 1
        tally = real_count(*arguments)
        if calls == 8:
            raise RuntimeError("gloo: the connection was closed")
        return tally

    def newest(accounts):
        found = real_newest(accounts)
        in_doubt = calls == 8 and found is not None and found.version == 7
        return Account(version=8, tally=Tally(loss=1.0)) if committed and in_doubt else found

    real_count, real_newest = own_run.count, own_program.newest
    monkeypatch.setattr(own_run, "count", count)
    monkeypatch.setattr(own_program, "newest", newest)
    assert agent.serve(loop) == 0
    assert weights(agent) == quiet
    # The turn is ended in the generation in which it was begun, or begun anew in the next.
    assert loop.ended == [(1 if step < 7 + committed else 2, step) for step in range(STEPS)]
    assert agent.said_of("entered")[1]["version"] == 7 + committed


def test_a_mistake_of_the_users_ends_the_job(tmp_path: Path) -> None:
    def forgets(run: trainer.Run) -> None:
        next(run.steps(3))

    agent = Agent(tmp_path)
    assert agent.serve(forgets) == 2
    (failed,) = agent.said_of("failed")
    assert failed["category"] == "job"
    assert "run.state" in failed["message"]
