"""`remesh checkpoint`: list, show, verify, diff, export, import, prune.

list, show, verify and prune import no torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from trainer.checkpoint import log
from trainer.checkpoint.catalog import Found, directory_store, find
from trainer.checkpoint.manifest import Summary
from trainer.errors import CheckpointDamaged, CheckpointError, JobError
from trainer.outside.numbers import seconds_flag, whole_flag

FORMATS = ("safetensors", "torch", "dcp", "hf")
REFERENCE = "checkpoint or run directory, or its URL; @VERSION for another than the newest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def command(name: str, text: str, act: Callable[[argparse.Namespace], int]) -> Any:
        declared = commands.add_parser(name, help=text, description=text)
        declared.set_defaults(act=act)
        return declared

    listing = command("list", "the committed checkpoints, newest first", _list)
    listing.add_argument("directory", help="checkpoint or run directory, or its URL")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    showing = command("show", "what a checkpoint holds", _show)
    showing.add_argument("checkpoint", help=REFERENCE)
    showing.add_argument("--json", action="store_true", help="one JSON object")
    verifying = command("verify", "read everything and name each damaged tensor", _verify)
    verifying.add_argument("checkpoint", help=REFERENCE)
    verifying.add_argument("--all", action="store_true", help="every checkpoint of the directory")
    verifying.add_argument("--json", action="store_true", help="one JSON object a checkpoint")
    differing = command("diff", "where two checkpoints differ", _diff)
    differing.add_argument("a", help=REFERENCE)
    differing.add_argument("b", help=REFERENCE)
    exporting = command("export", "write a checkpoint in another format", _export)
    exporting.add_argument("checkpoint", help=REFERENCE)
    exporting.add_argument("target", type=Path, help="an empty or new directory")
    exporting.add_argument("--format", choices=FORMATS, default="safetensors")
    exporting.add_argument("--weights", action="store_true", help="the model's tensors alone")
    exporting.add_argument("--job", type=Path, help="the job file, for hf; by default the run's")
    importing = command("import", "commit a foreign checkpoint's tensors", _import)
    importing.add_argument(
        "source", type=Path, help="safetensors file or directory, DCP directory, torch.save file"
    )
    importing.add_argument("directory", help="checkpoint directory, or its URL")
    importing.add_argument(
        "--version", type=whole_flag(0, 1 << 60), default=0, help="its optimizer steps so far"
    )
    importing.add_argument("--identity", type=_identity, default={}, metavar="JSON")
    importing.add_argument("--raw", action="store_true", help="keep all names as they are")
    importing.add_argument(
        "--fresh-moments",
        nargs="?",
        const="exp_avg,exp_avg_sq",
        default="",
        metavar="NAMES",
        help="add optimizer moments of zero, so that a job can start from the weights",
    )
    pruning = command("prune", "remove old checkpoints and leftovers of dead attempts", _prune)
    pruning.add_argument("directory", help="checkpoint or run directory, or its URL")
    pruning.add_argument("--keep", type=whole_flag(), default=0, help="the newest so many (0: all)")
    pruning.add_argument(
        "--keep-every", type=whole_flag(), default=0, help="and versions that this divides"
    )
    pruning.add_argument(
        "--leftovers",
        type=seconds_flag(),
        default=3600.0,
        help="seconds until a dead attempt is removed",
    )


def run(args: argparse.Namespace) -> int:
    """Act. Returns 0; 1 when verify finds damage, diff a difference, or a store fails.

    Raises JobError for wrong usage.
    """
    try:
        code = args.act(args)
    except (CheckpointError, OSError) as error:
        sys.stderr.write(f"remesh: {error}\n")
        return 1
    assert isinstance(code, int)
    return code


def _identity(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _list(args: argparse.Namespace) -> int:
    store = directory_store(args.directory)
    if not args.json:
        _say(
            f"{'version':>10}  {'generation':>10}  {'ranks':>5}  {'tensors':>7}  {'bytes':>9}  when"
        )
    for number, summary in log.summaries(store):
        if isinstance(summary, CheckpointDamaged):
            line = {"record": log.record_path(number), "damaged": str(summary)}
            _say(json.dumps(line) if args.json else f"{'damaged':>10}  {summary}")
        elif args.json:
            _say(json.dumps(_summary(number, summary)))
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(summary.time))
            _say(
                f"{summary.version:>10}  {summary.generation:>10}  {summary.world_size:>5}  "
                f"{summary.tensors:>7}  {size_text(summary.bytes):>9}  {when}"
            )
    return 0


def _summary(number: int, summary: Summary) -> dict[str, Any]:
    return {
        "version": summary.version,
        "generation": summary.generation,
        "record": log.record_path(number),
        "attempt": summary.attempt,
        "identity": summary.identity,
        "mesh": summary.mesh,
        "world_size": summary.world_size,
        "tensors": summary.tensors,
        "bytes": summary.bytes,
        "time": summary.time,
    }


def _show(args: argparse.Namespace) -> int:
    found = find(args.checkpoint)
    manifest = found.manifest
    head: dict[str, Any] = {
        "version": manifest.version,
        "generation": manifest.generation,
        "record": f"{found.store.url}/{log.record_path(found.number)}",
        "attempt": manifest.attempt,
        "identity": manifest.identity,
        "mesh": manifest.mesh,
        "world_size": manifest.world_size,
        "bytes": manifest.bytes,
        "files": len(manifest.files),
        "values": manifest.values,
    }
    tensors = manifest.tensors.items()
    if args.json:
        table = {name: [t.dtype, t.shape, len(t.chunks)] for name, t in tensors}
        _say(json.dumps(head | {"tensors": table}))
        return 0
    for key, value in head.items():
        text = value if isinstance(value, (str, int)) else json.dumps(value)
        _say(f"{key + ':':<12} {size_text(value) if key == 'bytes' else text}")
    width = max((len(name) for name, _ in tensors), default=0)
    for name, tensor in tensors:
        boxes = f"{len(tensor.chunks)} boxes" if len(tensor.chunks) != 1 else "1 box"
        _say(f"{name:<{width}}  {tensor.dtype:<13} {list(tensor.shape)!s:<18} {boxes}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    if not args.all:
        return int(_is_damaged(find(args.checkpoint), args.json))
    store = directory_store(args.checkpoint)
    damaged = False
    for number, summary in log.summaries(store):
        try:
            if isinstance(summary, CheckpointDamaged):
                raise summary
            found = Found(store, number, log.read_manifest(store, number))
        except CheckpointDamaged as error:
            line = json.dumps({"version": None, "whole": False, "damage": [str(error)]})
            _say(line if args.json else f"damaged: {error}")
            damaged = True
        else:
            damaged |= _is_damaged(found, args.json)
    return int(damaged)


def _is_damaged(found: Found, as_json: bool) -> bool:
    from trainer.checkpoint.audit import audit

    with Bar("verify", _tensor_bytes(found)) as bar:
        damage = audit(found.store, found.manifest, bar.advance)
    version = found.manifest.version
    if as_json:
        items = [{"tensor": item.tensor, "fault": item.fault} for item in damage]
        _say(json.dumps({"version": version, "whole": not damage, "damage": items}))
    else:
        for item in damage:
            _say(f"damaged: {item.tensor or 'header'}: {item.fault}")
        total = size_text(_tensor_bytes(found))
        count = len(found.manifest.tensors)
        outcome = (
            f"not whole: {len(damage)} damaged" if damage else f"whole: {count} tensors, {total}"
        )
        _say(f"version {version} is {outcome}")
    return bool(damage)


def _diff(args: argparse.Namespace) -> int:
    from trainer.checkpoint.compare import differences

    a, b = find(args.a), find(args.b)
    count = 0
    with Bar("compare", _tensor_bytes(a)) as bar:
        for line in differences(a, b, bar.advance):
            _say(line)
            count += 1
    if count == 0:
        _say(f"the same: {len(a.manifest.tensors)} tensors and all values")
    return int(count > 0)


def _export(args: argparse.Namespace) -> int:
    from trainer.checkpoint import exporting
    from trainer.checkpoint.keep import reading

    found = find(args.checkpoint)
    if args.target.exists() and (not args.target.is_dir() or any(args.target.iterdir())):
        raise JobError(f"{args.target} is not an empty directory: name a new one")
    store, manifest = found.store, found.manifest
    names = {name: name for name in manifest.tensors}
    if args.weights:
        prefix = exporting.MODEL_PREFIX
        names = {name: name.removeprefix(prefix) for name in exporting.weights(manifest)}
        if not names:
            raise JobError("the checkpoint has no model/ tensors; export without --weights")
    with (
        reading(store, manifest.attempt, now=time.time()),
        Bar("export", sum(manifest.tensors[name].bytes for name in names)) as bar,
    ):
        if args.format == "hf":
            job = args.job or Path(store.url).parent / "job.yaml"
            sizes, seq_len = exporting.job_sizes(manifest, job)
            args.target.mkdir(parents=True, exist_ok=True)
            files = exporting.export_hf(store, manifest, args.target, sizes, seq_len, bar.advance)
        else:
            args.target.mkdir(parents=True, exist_ok=True)
            export = {
                "safetensors": exporting.export_safetensors,
                "torch": exporting.export_torch,
                "dcp": exporting.export_dcp,
            }[args.format]
            files = export(store, manifest, args.target, names, bar.advance)
    for file in files:
        _say(str(file))
    return 0


def _import(args: argparse.Namespace) -> int:
    from trainer.checkpoint.importing import import_checkpoint

    moments: Sequence[str] = [name for name in args.fresh_moments.split(",") if name]
    with Bar("import", None) as bar:
        commit = import_checkpoint(
            args.source,
            args.directory,
            identity=args.identity,
            version=args.version,
            moments=moments,
            raw=args.raw,
            progress=bar.advance,
        )
    _say(f"{commit.path}: {size_text(commit.bytes)} in {commit.seconds:.1f} s")
    return 0


def _prune(args: argparse.Namespace) -> int:
    from trainer.checkpoint.keep import Keep, clean

    if args.keep < 0 or args.keep_every < 0:
        raise JobError("--keep and --keep-every are counts: give 0 or more")
    keep = Keep(keep=args.keep, keep_every=args.keep_every, leftovers=args.leftovers)
    removed = clean(directory_store(args.directory), keep, now=time.time())
    for attempt in removed:
        _say(f"removed {attempt}")
    return 0


def _tensor_bytes(found: Found) -> int:
    return sum(tensor.bytes for tensor in found.manifest.tensors.values())


def size_text(count: int) -> str:
    """Bytes for a person: 1536 is `1.5 KiB`."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


class Bar(AbstractContextManager["Bar"]):
    """A progress bar of bytes on a terminal's standard error; quiet elsewhere."""

    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total = title, total
        self._progress: Any = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._progress = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=self._total)
        return self

    def advance(self, count: int, total: int | None = None) -> None:
        """So many bytes more, of `total` where that was not known before; from any thread."""
        if self._progress is not None:
            self._progress.update(self._task, advance=count, total=total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
