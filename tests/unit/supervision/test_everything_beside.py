"""Nothing of ours runs beside the main flow without saying what follows from its failure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("remesh", "rendezvous", "trainer")
HELPER = "rendezvous/supervision.py"

HELPERS = {
    "start_task",
    "start_thread",
    "call_later",
    "call_at",
    "guarded",
    "for_good",
    "ThreadPool",
}
STARTERS = {
    "Thread",
    "Timer",
    "start_new_thread",
    "ThreadPoolExecutor",
    "ProcessPoolExecutor",
    "run_in_executor",
    "to_thread",
    "create_task",
    "ensure_future",
    "run_coroutine_threadsafe",
    "TaskGroup",
    "call_later",
    "call_at",
    "call_soon",
    "call_soon_threadsafe",
    "add_reader",
    "add_writer",
    "add_signal_handler",
    "add_done_callback",
    "start_server",
    "start_unix_server",
    "start_http_server",
    "serve_forever",
}
"""What Python and the libraries have to start something with, or to be called back by."""

BY_THEMSELVES = {
    "rendezvous/service/cli.py add_signal_handler": "it sets an event, which can't fail",
    "rendezvous/service/metrics.py start_http_server": "prometheus_client's own thread, which "
    "answers a request that fails with an error and serves the next",
    "rendezvous/service/service.py ensure_future": "one write of a message, awaited at once",
    "rendezvous/torchrun/background.py call_soon_threadsafe": "it stops the loop, as the last call",
    "rendezvous/torchrun/background.py run_coroutine_threadsafe": "its caller waits for the result",
    "trainer/agent/keeping.py add_done_callback": "they take a save, or a mirror, off a list",
}
"""What is started without the helper, and why that may be."""

BESIDE = {
    "rendezvous/etcd/connection.py": [
        "start_task etcd's members",
    ],
    "rendezvous/etcd/endpoint.py": [
        "start_task an old connection",
    ],
    "rendezvous/etcd/introductions.py": [
        "start_task an endpoint's cluster",
    ],
    "rendezvous/service/door.py": [
        "start_task door",
    ],
    "rendezvous/service/keeper.py": [
        "call_at self._tick",
        "call_later self._tick",
        "start_task a job's record",
    ],
    "rendezvous/service/leading.py": [
        "for_good {}",
        "start_task end of the leadership",
        "start_task leading",
        "start_task {}",
    ],
    "rendezvous/service/service.py": [
        "start_task an agent",
        "start_task forgetting",
    ],
    "rendezvous/session/session.py": [
        "call_later self._beat_now",
        "start_task rendezvous session",
        "start_task reports",
    ],
    "rendezvous/store/election.py": [
        "for_good watch of {}",
        "start_task leadership of {}",
        "start_task watch of {}",
    ],
    "rendezvous/store/memory.py": [
        "call_later self._end_lease",
    ],
    "rendezvous/store/renewal.py": [
        "start_thread lease",
    ],
    "rendezvous/torchrun/attendance.py": [
        "start_task session events",
    ],
    "rendezvous/torchrun/background.py": [
        "start_thread {}",
    ],
    "rendezvous/torchrun/conductor.py": [
        "start_task agents",
        "start_task decisions",
        "start_task end of the leadership",
    ],
    "rendezvous/torchrun/member.py": [
        "for_good {}",
        "start_task {}",
    ],
    "trainer/agent/agent.py": [
        "call_later self._inbox.put",
        "call_later self._worker_gone",
        "guarded a signal",
        "start_task hurry",
        "start_task last saves",
        "start_task others' ends",
        "start_task probe",
        "start_task salvage",
        "start_task session events",
    ],
    "trainer/agent/foresight.py": [
        "start_thread foresight",
    ],
    "trainer/agent/keeping.py": [
        "ThreadPool mirror",
        "guarded news of what is kept",
    ],
    "trainer/agent/mirrors.py": [
        "start_thread a mirror",
    ],
    "trainer/agent/output.py": [
        "call_later self._resume",
        "guarded a worker's output",
    ],
    "trainer/agent/process.py": [
        "guarded the end of a worker",
    ],
    "trainer/agent/pulse.py": [
        "call_later self.begin",
    ],
    "trainer/agent/reception.py": [
        "start_thread mirrors",
    ],
    "trainer/agent/waiting.py": [
        "call_later self._still",
    ],
    "trainer/agent/worker.py": [
        "guarded a worker's words",
        "guarded words to a worker",
    ],
    "trainer/checkpoint/part.py": [
        "ThreadPool checksums",
    ],
    "trainer/checkpoint/stager.py": [
        "start_thread stage",
    ],
    "trainer/checkpoint/writer.py": [
        "ThreadPool checkpoint",
        "guarded a save",
        "start_thread commits",
    ],
    "trainer/console.py": [
        "start_thread console",
    ],
    "trainer/deploy/actions.py": [
        "start_thread logs of {}",
    ],
    "trainer/telemetry/pen.py": [
        "guarded the run's record",
        "start_thread record",
    ],
    "trainer/worker/signals.py": [
        "start_thread signals",
    ],
    "trainer/worker/inbox.py": [
        "start_thread inbox",
    ],
}
"""All that runs beside the main flow, by the file that starts it."""


@dataclass(frozen=True)
class Start:
    """A call that starts something, or has it called back."""

    path: str
    line: int
    what: str
    name: str
    by_helper: bool


def starts(path: str, text: str) -> Iterator[Start]:
    """Every such call in a module, in order."""
    tree = ast.parse(text)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("supervision")
        for alias in node.names
    }
    guards = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and _called(node.value) == "guarded"
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    waited = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Await)} | {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node) == "start_task"
        for argument in node.args
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _called(node)
        if name in HELPERS and isinstance(node.func, ast.Name) and name in imported:
            yield Start(path, node.lineno, name, _name(node), by_helper=True)
        elif name in STARTERS:
            heard = id(node) in waited or any(
                _called(argument) == "guarded"
                or (isinstance(argument, ast.Name) and argument.id in guards)
                for argument in node.args
            )
            if not heard:
                yield Start(path, node.lineno, name, _name(node), by_helper=False)


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    match node.func:
        case ast.Name(name) | ast.Attribute(attr=name):
            return name
    return ""


def _name(node: ast.Call) -> str:
    """The name it is given, with `{}` for what is only known as it runs."""
    for keyword in node.keywords:
        if keyword.arg == "name":
            match keyword.value:
                case ast.Constant(value=str(text)):
                    return text
                case ast.JoinedStr(values=parts):
                    return "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "{}"
                        for part in parts
                    )
                case _:
                    return "{}"
    return ast.unparse(node.args[1]) if len(node.args) > 1 else "{}"


def every_start() -> list[Start]:
    return [
        start
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if not path.is_symlink() and str(path.relative_to(ROOT)) != HELPER
        for start in starts(str(path.relative_to(ROOT)), path.read_text())
    ]


def test_whatever_runs_beside_the_main_flow_is_started_by_the_one_helper() -> None:
    found = {
        f"{start.path} {start.what}": f"{start.path}:{start.line}"
        for start in every_start()
        if not start.by_helper
    }
    unheard = sorted(place for key, place in found.items() if key not in BY_THEMSELVES)
    assert not unheard, f"start these by {HELPER}, and say what follows from a failure: {unheard}"
    assert not set(BY_THEMSELVES) - set(found), "what is no longer there needs no reason"


def test_all_of_it_is_listed() -> None:
    found: dict[str, list[str]] = {}
    for start in every_start():
        if start.by_helper:
            found.setdefault(start.path, []).append(f"{start.what} {start.name}")
    assert {path: sorted(names) for path, names in found.items()} == BESIDE


@pytest.mark.parametrize(
    "line",
    [
        "threading.Thread(target=run).start()",
        "Thread(target=run).start()",
        "asyncio.create_task(run())",
        "task = loop.create_task(run())",
        "asyncio.ensure_future(run())",
        "loop.call_later(1, run)",
        "loop.add_reader(3, run)",
        "pool = ThreadPoolExecutor(3)",
        "saving = asyncio.to_thread(run)",
        "future.add_done_callback(run)",
        "call_later(1, run)",
    ],
)
def test_what_is_started_otherwise_is_found(line: str) -> None:
    assert [start.by_helper for start in starts("a.py", line)] == [False]


@pytest.mark.parametrize(
    "line",
    [
        "loop.add_reader(3, guarded(run, name='it', failed=failed))",
        "run = guarded(run, name='it', failed=failed)\nloop.add_reader(3, run)",
        "async def main(): await asyncio.to_thread(run)",
        "from rendezvous.supervision import call_later\ncall_later(1, run, failed=failed)",
    ],
)
def test_what_is_heard_is_no_fault(line: str) -> None:
    assert all(start.by_helper for start in starts("a.py", line))
