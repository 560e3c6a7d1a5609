"""gloo with the manners of NCCL when a collective is cut: whoever believes its result is seen.

What gloo raises at once, NCCL ends in silence: a collective that is under way when its
communicator is aborted comes back, and its buffers hold whatever lay there; only what is launched
afterwards raises. Until the abort, a rank whose peer is gone waits. And who is aborted hands on to
its neighbours what it has: they may be left with nonsense before anybody has told them anything.

`install` gives a worker's process such groups, over gloo's. A script, read when a generation's
groups are formed, says at which call which rank is cut, and how:

- `away`: it does not come to the call at all (as if it were dead) and waits for the abort;
- `cut`: it takes part, so that the others may well have the result, and is aborted before it has
  its own;
- `fooled`: it takes part and is left with nonsense, though nobody has told it anything;
- `last`: it takes part, and is away from its next call on. Who fools others is always such a rank.

All others that wait in vain are cut with it. A call is known by its place: where in trainer/ it
comes from, what it is, and the how-manieth it is there. Places are written down, a line a call.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _create_work_from_future
from torch.futures import Future
from torch.utils._pytree import tree_leaves

from trainer.worker import interrupt, seat

NAME = "like_nccl"
PATIENCE = 120.0
LOOK_SECONDS = 0.05
GRACE = 2.0
"""How long gloo may take to end a call by itself once its sockets are cut. It now and then forgets
a send or a receive, and who waits for that waits for good; see trainer/worker/interrupt.py."""
COLLECTIVES = (
    "allreduce",
    "allreduce_coalesced",
    "broadcast",
    "allgather",
    "allgather_coalesced",
    "_allgather_base",
    "reduce_scatter",
    "_reduce_scatter_base",
    "alltoall",
    "alltoall_base",
    "gather",
    "scatter",
    "reduce",
    "barrier",
)
COALESCED = {
    "allgather_into_tensor_coalesced": "_allgather_base",
    "reduce_scatter_tensor_coalesced": "_reduce_scatter_base",
}
"""Done one by one: gloo's can't be asked for from Python."""
NEW_NAMES = {
    "all_gather_single": "_allgather_base",
    "all_gather_single_coalesced": "allgather_into_tensor_coalesced",
    "reduce_scatter_single": "_reduce_scatter_base",
    "reduce_scatter_single_coalesced": "reduce_scatter_tensor_coalesced",
    "all_to_all_single": "alltoall_base",
}


class Script:
    """What happens to this process's collectives in one generation."""

    def __init__(self, directory: Path, generation: int, rank: int) -> None:
        self.aborted = threading.Event()
        self._directory = directory
        self._place = f"{generation}-{rank}"
        path = directory / f"script-{generation}.json"
        told: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._cuts: Mapping[str, tuple[int, str]] = told.get(str(rank), {})
        self._seen: Counter[str] = Counter()
        self._is_gone = False
        self._draw = random.Random(f"{told.get('seed')}/{self._place}")
        self._trace = (directory / f"calls-{self._place}").open("a", buffering=1)

    def close(self) -> None:
        self._trace.close()

    def next_call(self, name: str) -> str | None:
        """How the call that is made now is cut, if it is."""
        place = f"{_where()}/{name}"
        self._trace.write(f"{place}\n")
        self._seen[place] += 1
        if self._is_gone:
            return "away"
        turn, how = self._cuts.get(place, (0, ""))
        if self._seen[place] != turn:
            return None
        self._is_gone = how == "last"
        return how

    def tell(self) -> None:
        """The cut is there: whoever directs the script may interrupt now."""
        (self._directory / f"cut-{self._place}").touch()

    def wait_for_abort(self) -> None:
        if not self.aborted.wait(PATIENCE):
            raise TimeoutError("the script's cut was followed by no interrupt")

    @torch.no_grad()
    def spoil(self, results: list[torch.Tensor], *ways: str) -> None:
        """What an aborted kernel leaves: what was there, zeros, parts of sums, or old bytes."""
        for result in results:
            how = self._draw.choice(["zeros", "sums", "bytes", *ways])
            if how == "zeros":
                result.zero_()
            elif how == "sums":
                result.mul_(self._draw.randrange(2, 8))
            elif how == "bytes" and result.numel():
                size = result.numel() * result.element_size()
                noise = torch.frombuffer(bytearray(self._draw.randbytes(size)), dtype=torch.uint8)
                result.copy_(noise.view(result.dtype).view(result.shape))


def _where() -> str:
    """The innermost place in trainer/ that the call comes from, but for the exchange's own."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if "/trainer/" in code.co_filename and not code.co_filename.endswith("exchange.py"):
            return f"{Path(code.co_filename).stem}.{code.co_name}"
        frame = frame.f_back
    return "own"


class Process:
    """What the groups of this process share: the script of the generation it is in."""

    script: Script


class LikeNccl(dist.ProcessGroup):
    """A group over a gloo group's, whose calls come back as NCCL's do."""

    def __init__(self, store: Any, rank: int, size: int, timeout: Any) -> None:
        super().__init__(rank, size)
        self._rank, self._size = rank, size
        self._gloo: Any = dist.ProcessGroupGloo(store, rank, size, timeout)
        self._script = Process.script
        self._launched = 0

    def getBackendName(self) -> str:
        return NAME

    @property
    def pg_name(self) -> str:
        return dist.distributed_c10d._world.pg_names[self]

    group_name = pg_name

    def rank(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size

    def _get_sequence_number_for_group(self) -> int:
        return self._launched

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int = 0) -> dist.Work:
        return self._launch("send", [], lambda: self._gloo.send(tensors, peer, tag))

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int = 0) -> dist.Work:
        return self._launch("recv", tensors, lambda: self._gloo.recv(tensors, peer, tag))

    def shutdown(self) -> None:
        self._gloo = None

    def abort(self) -> None:
        """The script's event says so to all groups at once."""

    def _launch(
        self, name: str, results: list[torch.Tensor], launch: Callable[[], Any]
    ) -> dist.Work:
        script, self._launched = self._script, self._launched + 1
        how = script.next_call(name)
        if how == "away":
            script.tell()
            script.wait_for_abort()
        if script.aborted.is_set():
            raise dist.DistBackendError("NCCL communicator was aborted on rank 0")
        try:
            work = launch()
        except RuntimeError:
            work = None  # the peer is gone, which NCCL would not have noticed
        return Launched(script, results, work, how)


class Launched(dist._Work):
    """A call under way. `wait` returns with the result, or with what the cut left of it."""

    def __init__(
        self, script: Script, results: list[torch.Tensor], work: Any, how: str | None
    ) -> None:
        super().__init__()
        self._script, self._results, self._work, self._how = script, results, work, how
        self._over = False

    def wait(self, timeout: Any = None) -> bool:
        if self._over:
            return True
        self._over = True
        if not self._came_through():
            self._script.wait_for_abort()
            self._script.spoil(self._results, "leave")
        elif self._how == "cut":
            self._script.tell()
            self._script.wait_for_abort()
            self._script.spoil(self._results, "leave")
        elif self._how == "fooled":
            self._script.spoil(self._results)
        return True

    def is_completed(self) -> bool:
        return self._over or (self._work is not None and bool(self._work.is_completed()))

    def _came_through(self) -> bool:
        if self._work is None:
            return False
        over, came = threading.Event(), threading.Event()

        def wait() -> None:
            with contextlib.suppress(RuntimeError):
                self._work.wait()
                came.set()
            over.set()

        threading.Thread(target=wait, name="gloo", daemon=True).start()
        # An abort ends what is under way, also what gloo has forgotten when its sockets were cut.
        while not over.wait(LOOK_SECONDS) and not self._script.aborted.is_set():
            pass
        over.wait(GRACE)
        return came.is_set()


def _collective(name: str) -> Callable[..., dist.Work]:
    def call(self: LikeNccl, *arguments: Any) -> dist.Work:
        given = arguments[0] if arguments else []
        results = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)]
        self._launch(name, results, lambda: getattr(self._gloo, name)(*arguments)).wait()
        return _done(given)

    return call


def _one_by_one(single: str) -> Callable[..., dist.Work]:
    def call(self: LikeNccl, outputs: Any, inputs: Any, *options: Any) -> dist.Work:
        for output, given in zip(outputs, inputs, strict=True):
            getattr(self, single)(output, given)
        return _done(outputs)

    return call


def _done(results: Any) -> dist.Work:
    done: Future[Any] = Future()
    done.set_result(results)
    return _create_work_from_future(done)


for _name in COLLECTIVES:
    setattr(LikeNccl, _name, _collective(_name))
for _name, _old in COALESCED.items():
    setattr(LikeNccl, _name, _one_by_one(_old))
for _name, _old in NEW_NAMES.items():
    setattr(LikeNccl, _name, getattr(LikeNccl, _old))


def install(directory: Path) -> None:
    """Make this process's groups such. Scripts, calls and cuts are files in the directory."""
    dist.Backend.register_backend(NAME, LikeNccl, devices=["cpu"])
    dist.get_default_backend_for_device = lambda device: NAME
    form_groups = seat.form_groups

    def form(*arguments: Any, interruption: interrupt.Interruption, **more: Any) -> Any:
        Process.script = Script(directory, interruption.generation, more["rank"])
        interruption.script = Process.script
        return form_groups(*arguments, interruption=interruption, **more)

    def abort(interruption: interrupt.Interruption) -> None:
        """As for NCCL: the groups are aborted, and torch forgets them."""
        script = getattr(interruption, "script", None)
        if script is not None:
            script.aborted.set()
        if dist.is_initialized():
            dist.distributed_c10d._abort_process_group()

    seat.form_groups = form
    interrupt.Interruption._abort_communicators = abort


Cuts = Mapping[int, Mapping[str, tuple[int, str]]]
"""By rank and place: at which of its calls there, and how."""


def direct(directory: Path, generation: int, seed: object, cuts: Cuts) -> None:
    """Write a generation's script."""
    told = {str(rank): dict(places) for rank, places in cuts.items()}
    (directory / f"script-{generation}.json").write_text(json.dumps({"seed": seed, **told}))


def cut(directory: Path, generation: int, rank: int) -> bool:
    """Whether the script has come to the rank's cut."""
    return (directory / f"cut-{generation}-{rank}").exists()


def calls(directory: Path, generation: int, rank: int) -> list[str]:
    """The place of each call of a rank, in order."""
    return (directory / f"calls-{generation}-{rank}").read_text().splitlines()
