"""What the sections of a job must agree on; each refusal says how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from trainer.job.elastic import MAX_RANKS, MAX_SLOTS
from trainer.job.parallel import INTERLEAVED, ZERO_BUBBLE, ParallelSection

if TYPE_CHECKING:
    from trainer.job.schema import Job


class Problem(NamedTuple):
    """A key of the job, and what is wrong with it."""

    key: tuple[str | int, ...]
    text: str


def problems(job: Job) -> list[Problem]:
    """Everything the sections disagree on, without looking at nodes or files."""
    found = list(_elastic(job)) + list(_faults(job))
    if job.entrypoint is not None:
        return found + list(_entrypoint(job))
    found += [*_counts(job), *_portions(job), *_pipeline(job)]
    if job.model.factory is None:
        found += _model(job)
    return found


def _entrypoint(job: Job) -> Iterator[Problem]:
    entry = job.entrypoint
    assert entry is not None
    forms = [key for key in ("script", "module", "command") if getattr(entry, key) is not None]
    if len(forms) != 1:
        given = " and ".join(forms) or "none of them"
        yield Problem(
            ("entrypoint",), f"give exactly one of script, module and command, not {given}"
        )
    for section in ("model", "data", "train", "parallel", "compile", "checkpoint"):
        if section == "checkpoint" and entry.elastic:
            continue
        if section in job.model_fields_set:
            yield Problem(
                (section,),
                f"an entrypoint trains by itself; remove `{section}` or `entrypoint`",
            )


def _elastic(job: Job) -> Iterator[Problem]:
    elastic = job.elastic
    for key, least in (("nproc_per_node", 1), ("standby_per_node", 0)):
        value = getattr(elastic, key)
        if isinstance(value, int) and value < least:
            yield Problem(("elastic", key), f"{value} is too few; use auto or at least {least}")
    slots = elastic.nproc_per_node
    if isinstance(slots, int) and slots > MAX_SLOTS:
        yield Problem(("elastic", "nproc_per_node"), f"a node has at most {MAX_SLOTS} ranks")
    elif isinstance(slots, int) and slots * elastic.max_nodes > MAX_RANKS:
        yield Problem(
            ("elastic", "nodes"),
            f"{elastic.max_nodes} nodes of {slots} ranks are {slots * elastic.max_nodes} ranks; "
            f"a job has at most {MAX_RANKS}",
        )
    if isinstance(elastic.standby_per_node, int) and elastic.standby_per_node > MAX_SLOTS:
        yield Problem(("elastic", "standby_per_node"), f"use at most {MAX_SLOTS}")
    ordered = [("reconnect_grace", "beat_timeout"), ("beat_timeout", "collective_timeout")]
    ordered += [("last_call", "join_timeout"), ("interrupt_timeout", "collective_timeout")]
    if elastic.hang_timeout != "auto":
        ordered.append(("hang_timeout", "collective_timeout"))
    for shorter, longer in ordered:
        if getattr(elastic, shorter) > getattr(elastic, longer):
            yield Problem(
                ("elastic", shorter),
                f"{getattr(elastic, shorter):g} s is longer than elastic.{longer} "
                f"({getattr(elastic, longer):g} s); shorten it or raise elastic.{longer}",
            )
    if elastic.probe.command is not None and elastic.probe.file is not None:
        yield Problem(("elastic", "probe"), "give a command or a file, not both")


def _faults(job: Job) -> Iterator[Problem]:
    for index, fault in enumerate(job.faults):
        if (fault.step is None) == (fault.rate is None):
            yield Problem(("faults", index), "give either a step or a rate")
        if fault.rank is not None and fault.node is not None:
            yield Problem(("faults", index), "give a rank or a node, not both")


def _counts(job: Job) -> Iterator[Problem]:
    parallel, train = job.parallel, job.train
    if train.stop_at is not None and train.stop_at > train.steps:
        yield Problem(
            ("train", "stop_at"),
            f"{train.stop_at} lies behind the last step; use at most train.steps ({train.steps})",
        )
    if train.schedule.warmup > train.steps:
        yield Problem(
            ("train", "schedule", "warmup"),
            f"{train.schedule.warmup} steps of warm-up don't fit into train.steps ({train.steps})",
        )
    for beta in train.optimizer.betas:
        if not 0 <= beta < 1:
            yield Problem(("train", "optimizer", "betas"), f"{beta} is not within [0, 1)")
    for path, value in (
        (("train", "pieces"), train.pieces),
        (("parallel", "data"), parallel.data),
        (("parallel", "stages_per_rank"), parallel.stages_per_rank),
    ):
        if isinstance(value, int) and value < 1:
            yield Problem(path, f"{value} is too few; use auto or at least 1")
        elif isinstance(value, int) and value > MAX_RANKS:
            yield Problem(path, f"{value} is too many; use auto or at most {MAX_RANKS}")
    if isinstance(parallel.data, int) and parallel.data % parallel.replicate:
        yield Problem(
            ("parallel", "replicate"),
            f"data = {parallel.data} does not divide by replicate = {parallel.replicate}; "
            f"make parallel.data a multiple of {parallel.replicate}",
        )
    if (
        isinstance(parallel.data, int)
        and isinstance(train.pieces, int)
        and parallel.data > train.pieces
    ):
        yield Problem(
            ("train", "pieces"),
            f"{train.pieces} pieces leave some of the {parallel.data} data-parallel ranks without "
            f"work; use at least {parallel.data} pieces, or parallel.data: {train.pieces}",
        )


def _portions(job: Job) -> Iterator[Problem]:
    train = job.train
    if train.batch is None:
        return
    if train.pieces == "auto":
        if train.batch % train.microbatches:
            yield Problem(
                ("train", "batch"),
                f"a batch of {train.batch} does not divide by {train.microbatches} microbatches",
            )
        return
    try:
        size = train.samples_per_microbatch(train.pieces)
    except ValueError as error:
        yield Problem(("train", "batch"), str(error))
        return
    if train.microbatch_size not in (None, size):
        yield Problem(
            ("train", "microbatch_size"),
            f"{train.pieces} pieces × {train.microbatches} microbatches × {train.microbatch_size} "
            f"are not the batch of {train.batch}; remove it or train.batch",
        )


def _pipeline(job: Job) -> Iterator[Problem]:
    parallel, train = job.parallel, job.train
    schedule, virtual, ranks = parallel.schedule, parallel.virtual_stages, parallel.pipeline
    if schedule in ZERO_BUBBLE and job.compile.enabled:
        yield Problem(
            ("parallel", "schedule"),
            f"{schedule} splits the backward pass, which compiled blocks can't; "
            "use interleaved1f1b or compile.enabled: false",
        )
    if ranks == 1:
        return
    if schedule == "zbv" and virtual != 2:
        yield Problem(
            ("parallel", "stages_per_rank"), f"zbv needs 2 stages a rank, not {virtual}; use auto"
        )
    if schedule in ("gpipe", "1f1b") and virtual != 1:
        yield Problem(
            ("parallel", "stages_per_rank"),
            f"{schedule} needs 1 stage a rank, not {virtual}; use auto or interleaved1f1b",
        )
    trouble = microbatch_problem(parallel, train.microbatches, ranks)
    if trouble:
        yield Problem(("train", "microbatches"), trouble)


def microbatch_problem(parallel: ParallelSection, microbatches: int, ranks: int) -> str | None:
    """Why the schedule can't run a piece of that many microbatches over that many ranks."""
    schedule = parallel.schedule
    if ranks > 1 and schedule in INTERLEAVED:
        rounds = max(1, microbatches // ranks)
        if microbatches % rounds:
            return (
                f"{schedule} over {ranks} ranks needs a multiple of {ranks} microbatches a piece, "
                f"not {microbatches}; use {ranks * rounds} or {ranks * (rounds + 1)}"
            )
    if schedule == "1f1b" and microbatches < ranks:
        return (
            f"1f1b over {ranks} stages needs at least {ranks} microbatches a piece, "
            f"not {microbatches}; raise it, or use schedule gpipe or fewer pipeline ranks"
        )
    return None


def _model(job: Job) -> Iterator[Problem]:
    sizes, parallel = job.model.sizes(), job.parallel
    tensor = parallel.tensor
    if sizes.dim % sizes.heads:
        yield Problem(
            ("model", "heads"), f"a width of {sizes.dim} does not divide by {sizes.heads} heads"
        )
    elif sizes.head_dim % 2:
        yield Problem(
            ("model", "heads"),
            f"heads of {sizes.head_dim} channels can't be rotated in pairs; use an even width",
        )
    if sizes.heads % sizes.kv_heads:
        yield Problem(
            ("model", "kv_heads"),
            f"{sizes.heads} heads do not divide by {sizes.kv_heads} key and value heads",
        )
    if tensor > 1:
        cut = {"heads": sizes.heads, "kv_heads": sizes.kv_heads, "ffn_dim": sizes.ffn_dim}
        cut["vocab"] = sizes.vocab
        key = next((key for key, value in cut.items() if value % tensor), None)
        if key is not None:
            yield Problem(
                ("parallel", "tensor"),
                f"model.{key} = {cut[key]} does not divide by tensor = {tensor}; "
                f"use tensor: {_nearest_divisor(cut[key], tensor)} or change model.{key}",
            )
        elif parallel.sequence_parallel and job.data.seq_len % tensor:
            yield Problem(
                ("parallel", "tensor"),
                f"data.seq_len = {job.data.seq_len} does not divide by tensor = {tensor}; "
                "change one of them or set parallel.sequence_parallel: false",
            )
    stages = parallel.pipeline * parallel.virtual_stages
    if stages > sizes.layers:
        yield Problem(
            ("parallel", "pipeline"),
            f"{sizes.layers} layers can't fill {stages} pipeline stages; "
            f"use at most pipeline: {max(1, sizes.layers // parallel.virtual_stages)}",
        )
    if sizes.tied and tensor > 1:
        yield Problem(
            ("parallel", "tensor"),
            "a head tied to the embedding can't be cut; set model.tied: false or tensor: 1",
        )
    if sizes.tied and parallel.pipeline > 1:
        yield Problem(
            ("parallel", "pipeline"),
            "a head tied to the embedding would lie on two stages; "
            "set model.tied: false or pipeline: 1",
        )


def _nearest_divisor(value: int, wanted: int) -> int:
    return next(n for n in range(wanted, 0, -1) if value % n == 0)
