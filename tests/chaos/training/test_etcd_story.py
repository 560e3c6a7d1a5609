"""A job lives through what befalls its etcd in a year, and ends in the weights of a calm run.

1. Four ranks on two nodes train in generation 1, under two services over three members of etcd. A
   snapshot is taken; a rank is killed, so that the job moves on.
2. All members are killed and restored from the snapshot: the job goes on above what it was in.
3. One member after the other is replaced, until none of the first is left. A rank is killed: the
   generation that follows is written by members that did not know the job.
4. Keys and words that nobody can read lie in the election and among the records; the service that
   leads is killed. A rank is killed once more.
5. Both nodes leave with notice and come back for the last steps. Each step was counted once.

Between any two of these the job takes steps, whatever etcd does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.training.crew import JOB, STEPS, Crew, undisturbed
from tests.etcd_server import EtcdCluster, EtcdServer, free_port
from tests.integration.launcher.launching import Launcher, wait_for
from tests.rendezvous_services import ServiceProcess
from trainer.telemetry.files import read_lines

pytestmark = pytest.mark.slow

ENDLESS = JOB.replace(f"steps: {STEPS}", "steps: 100000")
MORE_STEPS = 10
LAST_STEPS = 20
LEADER = "/remesh/leader"
STRAY = (b"/remesh/leader\xff", b"/remesh/v1/caf\xe9/job", b"/remesh/v1/crew\xff/job")


class Etcd:
    """Members that come and go; the ports of those that are still to come are known."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.first = stack.enter_context(EtcdCluster.start(folder))
        self.members = list(self.first.members)
        self._ports = [free_port() for _ in self.members]

    @property
    def url(self) -> str:
        """Of all that there ever will be."""
        later = [f"127.0.0.1:{port}" for port in self._ports]
        return "etcd://" + ",".join([*self.first.endpoints, *later])

    def go_back(self, snapshot: Path) -> None:
        """All that are down become what one of them was."""
        for member in self.members:
            member.restore(snapshot)
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait_ready()

    def replace(self, old: EtcdServer, port: int) -> None:
        """Another member joins, and then this one goes for good."""
        peer = free_port()
        name = f"new-{old.name}"
        insist(old, "member", "add", name, f"--peer-urls=http://127.0.0.1:{peer}")
        known = {row["name"]: row for row in self._known() if row.get("name")}
        peers = {one: int(row["peerURLs"][0].rpartition(":")[2]) for one, row in known.items()}
        new = EtcdServer(
            self._folder,
            name=name,
            client_port=port,
            peers={**peers, name: peer},
            heartbeat_ms=100,
            options=["--initial-cluster-state=existing"],
        )
        self._stack.callback(new.close)
        new.restart()
        self.members = [new if member is old else member for member in self.members]
        insist(new, "member", "remove", f"{known[old.name]['ID']:x}")
        old.kill()

    def replace_all(self) -> Iterator[None]:
        """One at a time."""
        for old, port in zip(list(self.members), self._ports, strict=True):
            self.replace(old, port)
            yield

    def _known(self) -> list[dict]:
        return json.loads(self.members[-1].ctl("member", "list", "--write-out=json"))["members"]


def insist(member: EtcdServer, *words: str) -> None:
    """etcd changes its members only once all of them have been connected for some seconds."""

    def done() -> bool:
        try:
            member.ctl(*words)
        except RuntimeError as error:
            if "unhealthy cluster" in str(error):
                return False
            raise
        return True

    wait_for(done, f"etcdctl {' '.join(words)}")


def logged(services: list[ServiceProcess], words: str) -> None:
    wait_for(lambda: any(words in one.log for one in services), f"a service says: {words}")


def leading(services: list[ServiceProcess]) -> ServiceProcess:
    """Who began to lead and has not said that it leads no longer."""

    def leads(one: ServiceProcess) -> bool:
        if not one.running:
            return False
        return one.log.rfind("leading, with token") > one.log.rfind("no longer leading")

    wait_for(lambda: any(leads(one) for one in services), "a service leads")
    return next(one for one in services if leads(one))


def takes_steps(crew: Crew) -> None:
    crew.reach(crew.step + MORE_STEPS)


def changes(crew: Crew, rank: int) -> None:
    """A rank is killed, and a generation of all four goes on."""
    number = crew.number
    crew.kill(rank)
    crew.wait_for_generation(number + 1)
    takes_steps(crew)


@pytest.mark.timeout(1200)
def test_a_job_outlives_the_etcd_that_it_began_with(launcher: Launcher, tmp_path: Path) -> None:
    with ExitStack() as stack:
        etcd = Etcd(tmp_path / "etcd", stack)
        services = [
            stack.enter_context(ServiceProcess.start(etcd.url, tmp_path / f"{name}.log"))
            for name in ("first", "second")
        ]
        crew = Crew(launcher, job=ENDLESS, endpoint=",".join(one.endpoint for one in services))
        leading(services)
        crew.start("a", "b")
        crew.reach(1)
        takes_steps(crew)

        snapshot = etcd.members[0].snapshot()
        changes(crew, 1)
        before = crew.number
        for member in etcd.members:
            member.kill()
        takes_steps(crew)
        logged(services, "no longer leading")
        etcd.go_back(snapshot)
        crew.wait_for_generation(before + 1)
        logged(services, f"the store went back from generation {before}")
        takes_steps(crew)

        for _ in etcd.replace_all():
            takes_steps(crew)
        assert not {member.name for member in etcd.members} & {m.name for m in etcd.first.members}
        changes(crew, 2)

        for key in STRAY:
            etcd.members[0].put_bytes(key, b"x")
        etcd.members[0].ctl("put", "/remesh/v1/other/job", "garbage")
        etcd.members[0].ctl("put", LEADER, "garbage")
        logged(services, "somebody has written over")
        takes_steps(crew)
        gone = leading(services)
        gone.kill()
        other = leading(services)
        assert other is not gone
        logged([other], "is no key of a job")
        changes(crew, 3)
        gone.restart()
        takes_steps(crew)

        reached = leave(crew)
        last = reached + LAST_STEPS
        crew.start("a", "b", flags=[f"--set=train.stop_at={last}"])
        summary = crew.end()
        assert (summary["status"], summary["steps"]) == ("stopped", last)
        counted = [line["step"] for line in read_lines(crew.root / "metrics.jsonl")]
        assert counted == list(range(1, last + 1))
        numbers = [event["generation"] for event in crew.events("generation.begin")]
        assert numbers == sorted(set(numbers)), "no generation has the number of another"
        crew.check_nothing_is_left()
    calm = tmp_path / "calm"
    calm.mkdir()
    expected = undisturbed(calm, f"--set=train.stop_at={last}", job=ENDLESS)
    assert summary["weights_sha256"] == expected["weights_sha256"], crew.story()


def leave(crew: Crew) -> int:
    """Both nodes have notice, and save together; the step that they got to."""
    for agent in crew.agents.values():
        agent.terminate()
    assert {crew.see_off(node).code for node in list(crew.agents)} == {75}
    return crew.step
