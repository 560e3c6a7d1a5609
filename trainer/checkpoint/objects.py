"""Object stores through fsspec: S3 with s3fs, GCS with gcsfs, Azure with adlfs, and others.

An object appears whole or not at all, so that a data file is one upload, and a commit is one put
that succeeds only where nothing lies yet.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from trainer.checkpoint.store import Arrived, Buffer
from trainer.errors import CheckpointError

PART_BYTES = 32 << 20
MAX_PARTS = 9000
CONCURRENCY = 8


class Joined:
    """Buffers as one sequence of bytes, of which only a slice at a time is ever copied."""

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._views = [memoryview(part).cast("B") for part in parts]
        self._length = sum(len(view) for view in self._views)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(self._length)
        taken, position = [], 0
        for view in self._views:
            low, high = max(start - position, 0), min(stop - position, len(view))
            if low < high:
                taken.append(view[low:high])
            position += len(view)
        return b"".join(taken)


class ObjectStore:
    """An object store, or whatever else fsspec opens by a URL."""

    remote = True

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        """Raises CheckpointError when the URL's kind of store is unknown or not installed."""
        import fsspec

        try:
            self._fs, self._root = fsspec.core.url_to_fs(
                url, use_listings_cache=False, **(options or {})
            )
        except (ImportError, ValueError) as error:
            raise CheckpointError(
                f"{url} can't be opened: {error} (for s3://, install remesh[s3])"
            ) from error
        self._root = self._root.rstrip("/")
        self.url = url.rstrip("/")

    def write(self, path: str, parts: Iterable[Buffer], *, durable: bool = True) -> int:
        data = Joined(parts)
        with _as_os_errors():
            if "s3" in self._protocols:
                self._upload(path, data)
            else:
                with self._fs.open(self._at(path), "wb", block_size=PART_BYTES) as file:
                    for start in range(0, len(data), PART_BYTES):
                        file.write(data[start : start + PART_BYTES])
        return len(data)

    def create(self, path: str, data: bytes) -> bool:
        with _as_os_errors():
            try:
                self._fs.pipe_file(self._at(path), data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if _refused(error):
                    return False
                raise
        return True

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        end = None if length is None else start + length
        with _as_os_errors():
            if start == 0 and end is None:
                data: bytes = self._fs.cat_file(self._at(path))
            else:
                size = self.size(path)
                stop = size if end is None else min(end, size)
                data = self._fs.cat_file(self._at(path), start=start, end=stop) if size else b""
        return data

    def read_into(self, path: str, start: int, target: memoryview, arrived: Arrived) -> int:
        view = target.cast("B")
        with _as_os_errors():
            data = self._fs.cat_file(self._at(path), start=start, end=start + len(view))
        view[: len(data)] = data
        arrived(view[: len(data)])
        return len(data)

    def size(self, path: str) -> int:
        with _as_os_errors():
            return int(self._fs.size(self._at(path)))

    def names(self, path: str) -> list[str]:
        with _as_os_errors():
            try:
                found = self._fs.ls(self._at(path), detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def remove(self, path: str) -> None:
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._at(path))

    def remove_tree(self, path: str) -> None:
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._at(path), recursive=True)

    def free(self) -> int | None:
        return None

    def age(self, path: str, now: float) -> float:
        with _as_os_errors():
            found = self._fs.find(self._at(path), detail=True)
        times = [_changed(info) for info in found.values()]
        if not times:
            raise FileNotFoundError(path)
        return now - max(times)

    @property
    def _protocols(self) -> tuple[str, ...]:
        protocol = self._fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _upload(self, path: str, data: Joined) -> None:
        """One put, or a multipart upload of several parts at a time."""
        part = max(PART_BYTES, -(-len(data) // MAX_PARTS))
        body: Any = data if len(data) >= 2 * part else data[:]
        self._fs.pipe_file(self._at(path), body, chunksize=part, max_concurrency=CONCURRENCY)


def _changed(info: dict[str, Any]) -> float:
    for key in ("LastModified", "updated", "last_modified", "mtime", "created"):
        value = info.get(key)
        if value is not None:
            return float(value.timestamp() if hasattr(value, "timestamp") else value)
    raise FileNotFoundError(str(info.get("name")))


def _refused(error: OSError) -> bool:
    """Whether the store said that there is an object already."""
    response = getattr(error.__cause__, "response", {})
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412)


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """What a store's client raises of its own for a broken connection becomes an OSError."""
    try:
        yield
    except _client_errors() as error:
        raise OSError(f"the store can't be reached: {error}") from error


def _client_errors() -> tuple[type[Exception], ...]:
    kinds = []
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
    ):
        loaded = sys.modules.get(module)
        if loaded is not None:
            kinds.append(getattr(loaded, name))
    return tuple(kinds)
