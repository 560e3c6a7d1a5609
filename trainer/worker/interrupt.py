"""Make every blocked collective of a generation raise, from another thread, at once.

When a peer dies only its neighbours hear of it; the other ranks wait in their collectives for
good. `abort()` does nothing in gloo (torch 2.13), but to shut the sockets that it is blocked on
for reading makes each call raise within milliseconds, also when the peer is merely stopped. The
sockets of a generation are the ones that appeared while its groups were formed. Listening
sockets are left alone: to shut one down aborts the process inside gloo. NCCL communicators are
aborted, all of them in one group, or they hang each other.

What NCCL's collectives then leave in their buffers is never an error, and never to be believed:
whoever reads it asks `check` afterwards. So the end is marked first, and strikes then.

Nothing is shut for writing, and what was open stays so, by a duplicate, until `release`: a send
that fails within gloo's event loop is forgotten there, and who waits for it waits for good (seen
with torch 2.13 in one of fifty interrupts). So whoever leaves a generation first must not close
its end while others are still in the middle of a send; their own agents get them out.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import torch.distributed as dist

from trainer.errors import ContactLost, GenerationOver

_DESCRIPTORS = Path("/proc/self/fd")
FORMING_POLL_SECONDS = 0.05


def connected_sockets() -> dict[int, str]:
    """Each connected TCP socket of this process: its descriptor and its inode's name."""
    found: dict[int, str] = {}
    for entry in list(_DESCRIPTORS.iterdir()):
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed since it was listed
        if target.startswith("socket:") and _is_connected_tcp(int(entry.name)):
            found[int(entry.name)] = target
    return found


def _is_connected_tcp(descriptor: int) -> bool:
    try:
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return False
    with duplicate:
        if duplicate.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        if duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        try:
            duplicate.getpeername()
        except OSError:
            return False
        return True


def _duplicate(descriptor: int, name: str) -> socket.socket | None:
    """The socket by another number; None when it was closed, or its number given to another."""
    try:
        double = os.dup(descriptor)
    except OSError:
        return None
    if str((_DESCRIPTORS / str(double)).readlink()) != name:
        os.close(double)
        return None
    return socket.socket(fileno=double)


class Interruption:
    """The end of one generation, as seen by the thread that trains.

    `strike` may come from any thread and at any time; the training thread sees it as
    `GenerationOver` at the next `check`, or as the failure of the collective it is in.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.reason: str | None = None
        self._disconnected = False
        """The peers were lost without a word from the agent: what comes from them is cut."""
        self._formed = threading.Event()
        self._formed.set()
        self._lock = threading.Lock()
        self._sockets: dict[int, str] = {}
        self._before: dict[int, str] | None = None
        self._held: dict[str, socket.socket] = {}

    @contextlib.contextmanager
    def forming_groups(self) -> Iterator[None]:
        """Take note of the sockets that are opened within; a strike meanwhile ends those too."""
        with self._lock:
            self._before = connected_sockets()
        # Cleared before the check: a strike either is seen here, or sees this.
        self._formed.clear()
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._sockets |= self._opened_since(self._before)
                self._before = None
            self._formed.set()
        self.check()

    def check(self) -> None:
        """Raise GenerationOver if the generation has ended; ContactLost without its peers."""
        if self.reason is not None:
            raise GenerationOver(self.generation, self.reason)
        if self._disconnected:
            raise ContactLost("this rank's connections to its peers were cut")

    def strike(self, reason: str) -> None:
        """End the generation: whatever collective is blocked raises.

        While groups are being formed, which opens one socket after the other, it returns only
        when that has come to its end.
        """
        if self.reason is None:
            self.reason = reason
        # Only now: a result that is read in between must not be believed.
        self._cut()
        while not self._formed.wait(FORMING_POLL_SECONDS):
            self._cut()
        self._abort_communicators()

    @staticmethod
    def _opened_since(before: dict[int, str]) -> dict[int, str]:
        return {fd: name for fd, name in connected_sockets().items() if before.get(fd) != name}

    def hold(self) -> None:
        """Keep the generation's connections open when its groups are dropped."""
        with self._lock:
            sockets = dict(self._sockets)
            if self._before is not None:
                sockets |= self._opened_since(self._before)
            for descriptor, name in sockets.items():
                if name not in self._held and (double := _duplicate(descriptor, name)):
                    self._held[name] = double

    def release(self) -> None:
        """Everybody has left the generation: let its connections go."""
        with self._lock:
            for double in self._held.values():
                double.close()
            self._held.clear()

    def disconnect(self) -> None:
        """Lose the peers without a word from the agent, as when a network does that."""
        self._disconnected = True
        self._cut()
        self._abort_communicators()

    def _cut(self) -> None:
        """Hear nothing more from the peers: whatever waits for them raises."""
        self.hold()
        with self._lock:
            for double in self._held.values():
                with contextlib.suppress(OSError):
                    double.shutdown(socket.SHUT_RD)

    def _abort_communicators(self) -> None:
        if dist.is_initialized() and dist.get_backend() == dist.Backend.NCCL:
            dist.distributed_c10d._abort_process_group()
