"""A factory's persistent buffers are state, as its parameters are.

Buffers that no forward changes: one hash on every mesh. Buffers that forwards change: one hash on
one mesh, whatever is stopped, killed, skipped or done again on the way, and the user is told which.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh

from tests.integration.training.jobs import mesh, write_job
from tests.workers import Pool, Workers, weights
from trainer.checkpoint import Checkpointer
from trainer.checkpoint.catalog import find
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.exporting import read_tensor
from trainer.data import open_batches
from trainer.errors import CheckpointMismatch, JobError
from trainer.job import load
from trainer.models.factory import build_spec
from trainer.worker.ballot import Wish
from trainer.worker.build import Training
from trainer.worker.rehearsal import DIMS
from trainer.worker.restore import restore
from trainer.worker.step import train_step

CPU = torch.device("cpu")
FACTORIES = Path(__file__).parent / "factories"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FACTORIES))
        with Pool(tmp_path_factory.mktemp("pool")) as pool:
            yield pool


@pytest.fixture
def users_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """For workers that are started from now on, and for this process."""
    monkeypatch.setenv("PYTHONPATH", str(FACTORIES))
    monkeypatch.syspath_prepend(FACTORIES)


def job_of(
    directory: Path, factory: str, arguments: dict[str, Any] | None = None, **overrides: Any
) -> Path:
    """Six steps of four pieces, unless told otherwise."""
    model = {"factory": f"buffered:{factory}", "args": arguments or {}}
    train = {"steps": 6, "pieces": 4, "microbatches": 2, "clip": 1.0}
    train |= overrides.pop("train", {})
    return write_job(directory, model=model, train=train, **overrides)


def saving(tmp_path: Path) -> dict[str, Any]:
    return {"every": 0, "at_end": True, "directory": str(tmp_path / "checkpoints")}


def saved(tmp_path: Path, name: str) -> torch.Tensor:
    found = find(str(tmp_path / "checkpoints"))
    return read_tensor(found.store, found.manifest, f"model/{name}")


def notes(said: list[list[dict]]) -> dict[str, list[str]]:
    """Which buffers were told of, by why."""
    told = [m for rank in said for m in rank if m.get("event") == "buffers.change"]
    return {message["why"]: message["buffers"] for message in told}


def test_buffers_that_never_change_are_in_the_hash_and_the_same_on_every_mesh(pool, tmp_path):
    alone = pool.train(job_of(tmp_path / "alone", "constant"), 1)
    assert notes(alone) == {}
    for dp in (2, 3):
        many = pool.train(job_of(tmp_path / f"{dp}", "constant", **mesh(dp=dp)), dp)
        assert weights(many) == weights(alone)
    # The forward does not read it, so that all parameters are alike.
    other = pool.train(job_of(tmp_path / "other", "constant", {"offset": 0.25}), 1)
    assert weights(other) != weights(alone)


def test_a_smaller_mesh_takes_them_up_and_what_is_exported_fits_the_model(
    pool, tmp_path, users_models
):
    undisturbed = weights(pool.train(job_of(tmp_path / "alone", "constant"), 1))
    kept = saving(tmp_path)
    first = job_of(tmp_path / "a", "constant", checkpoint=kept, train={"stop_at": 3}, **mesh(dp=2))
    pool.train(first, 2)
    rest = pool.train(job_of(tmp_path / "b", "constant", checkpoint=kept), 1)
    assert weights(rest) == undisturbed
    import buffered

    found = find(str(tmp_path / "checkpoints"))
    state = {
        name.removeprefix("model/"): read_tensor(found.store, found.manifest, name)
        for name in found.manifest.tensors
        if name.startswith("model/")
    }
    buffered.constant().load_state_dict(state)  # strict: nothing is missing, nothing too much


def test_a_resumed_run_ends_as_an_undisturbed_one_and_its_buffers_are_told(pool, tmp_path):
    undisturbed = pool.train(job_of(tmp_path / "whole", "changing", **mesh(dp=2)), 2)
    assert notes(undisturbed) == {
        "ranks": ["mean", "norm.running_mean", "norm.running_var"],
        "forwards": ["seen", "begun", "norm.num_batches_tracked"],
        "passing": ["passing"],
    }
    kept = saving(tmp_path)
    first = job_of(tmp_path / "a", "changing", checkpoint=kept, train={"stop_at": 3}, **mesh(dp=2))
    pool.train(first, 2)
    rest = pool.train(job_of(tmp_path / "b", "changing", checkpoint=kept, **mesh(dp=2)), 2)
    assert weights(rest) == weights(undisturbed)
    # Two of four pieces a step are a rank's, of two forwards each.
    assert saved(tmp_path, "seen") == 6 * 2 * 2
    assert saved(tmp_path, "begun").dtype is torch.bool


def test_a_step_that_updates_nothing_and_a_piece_that_does_not_count_leave_no_trace(pool, tmp_path):
    """1. step 3 of 4 has bad numbers; 2. in the second of two rounds only the first of three ranks
    has a piece."""
    nan = [{"kind": "nan", "step": 3, "rank": 0}]
    job = job_of(
        tmp_path / "a",
        "changing",
        checkpoint=saving(tmp_path),
        train={"steps": 4},
        faults=nan,
        **mesh(dp=3),
    )
    said = pool.train(job, 3)
    assert said[0][-1]["summary"]["skipped_steps"] == 1
    assert saved(tmp_path, "seen") == 3 * 2 * 2
    assert saved(tmp_path, "mean").isfinite().all()


def test_stages_and_tensor_parallel_ranks_have_their_buffers(pool, tmp_path):
    """1. two stages end as one does; 2. what two ranks cut is taken up by one, with the counts."""
    alone = pool.train(job_of(tmp_path / "alone", "staged"), 1)
    assert notes(alone) == {"forwards": ["forwards", "blocks.0.up.calls", "blocks.1.up.calls"]}
    cut = pool.train(job_of(tmp_path / "pp", "staged", **mesh(pp=2)), 2)
    assert weights(cut) == weights(alone)

    kept = saving(tmp_path)
    first = job_of(tmp_path / "a", "staged", checkpoint=kept, train={"stop_at": 3}, **mesh(tp=2))
    pool.train(first, 2)
    assert saved(tmp_path, "blocks.1.up.calls") == 3 * 4 * 2
    pool.train(job_of(tmp_path / "b", "staged", checkpoint=kept, **mesh(pp=2)), 2)
    assert saved(tmp_path, "blocks.1.up.calls") == saved(tmp_path, "forwards") == 6 * 4 * 2


@contextmanager
def alone_with(job: Path) -> Iterator[Training]:
    """What a single rank trains, in this process."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        described = load(job)
        spec, pieces = build_spec(described), described.pieces()
        ranks = init_device_mesh("cpu", (1, 1, 1, 1), mesh_dim_names=DIMS)
        batches = open_batches(described, pieces=pieces)
        training = Training(described, spec, batches, ranks, CPU, pieces=pieces, generation=1)
        training.initialize(spec)
        yield training
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("factory", "arguments", "words"),
    [
        ("growing", {"kind": "grows"}, r"made the buffer history another one: .*float32 \[1\] and"),
        ("growing", {"kind": "comes"}, "the buffer mask came with a forward"),
        ("staged", {"fills": False}, "the buffer forwards has no value: .* after_materialize"),
    ],
)
def test_a_buffer_that_could_not_be_taken_back_is_refused_in_the_first_step(
    users_models, tmp_path, factory, arguments, words
):
    with (
        pytest.raises(JobError, match=words),
        alone_with(job_of(tmp_path, factory, arguments)) as training,
    ):
        train_step(training, wish=Wish(), at=lambda point: None, exchange=Exchange(0, 1, None))


def test_one_name_for_what_two_stages_change_differently_is_refused(users_models, tmp_path):
    job = job_of(tmp_path / "job", "staged", {"apart": True}, **mesh(pp=2))
    words = "'category': 'final'.*model/forwards differs between ranks 0 and 1 after step 1.*stages"
    with Pool(tmp_path / "pool") as pool, pytest.raises(AssertionError, match=words):
        pool.train(job, 2)


def test_what_a_checkpoint_lacks_or_has_too_much_of_buffers(users_models, tmp_path):
    """1. without its buffers, as an earlier release saved it, a model's checkpoint is refused by
    their names; 2. with them, and with the moments that an import has made for them, it is read."""
    with alone_with(job_of(tmp_path, "changing")) as training:
        state = training.state
        whole = {name: tensor.clone() for name, tensor in state.tensors().items()}
        old = {name: tensor for name, tensor in whole.items() if name not in state.untrained()}
        imported = whole | {
            f"optim/{name.removeprefix('model/')}/exp_avg": torch.zeros_like(whole[name])
            for name in state.untrained()
        }
        for directory, tensors in (("old", old), ("imported", imported)):
            checkpointer(tmp_path / directory).save(3, tensors, {"version": 3})
        exchange = Exchange(0, 1, None)
        options = {"node": "", "exchange": exchange, "device": CPU}
        with pytest.raises(CheckpointMismatch) as refused:
            restore(state, list, checkpointer(tmp_path / "old"), **options)
        assert "written without the model's buffers: model/begun; model/mean" in str(refused.value)
        assert "persistent=False" in str(refused.value)
        found = restore(state, list, checkpointer(tmp_path / "imported"), **options)
        assert found is not None
        assert found.version == 3


def checkpointer(directory: Path) -> Checkpointer:
    return Checkpointer(directory, identity={}, rank=0, world_size=1, generation=1)


def test_killed_ranks_leave_the_bits_as_they_are(pool, tmp_path, users_models):
    """1. rank 1 is killed when the forwards of step 2 are done; 2. rank 0 when step 4 is agreed
    on; 3. rank 1 when it has applied step 5. Each time a fresh process takes the place, and the
    other one redoes the step, or ends it."""
    undisturbed = weights(pool.train(job_of(tmp_path / "whole", "changing", **mesh(dp=2)), 2))
    kills = [(2, 1, "before-norm"), (4, 0, "after-norm"), (5, 1, "after-apply")]
    faults = [{"kind": "kill", "step": s, "rank": r, "point": point} for s, r, point in kills]
    job = job_of(
        tmp_path / "job", "changing", elastic={"mirror_every": 1}, faults=faults, **mesh(dp=2)
    )
    with Workers(2 + len(kills), tmp_path / "workers") as node:
        first, second, *fresh = node.workers
        who = [first, second]
        for generation, (_, rank, _) in enumerate(kills, 1):
            node.enter(generation, job, who=who, run_directory=tmp_path, staging=tmp_path / "shm")
            killed, other = who[rank], who[1 - rank]
            node.lost(killed)
            other.tell({"type": "interrupt", "generation": generation, "reason": "test"})
            node.until(
                lambda left=other, g=generation: (left.last("left") or {}).get("generation") == g
            )
            who[rank] = fresh.pop()
        node.enter(4, job, who=who, run_directory=tmp_path, staging=tmp_path / "shm")
        node.until(lambda: all(worker.last("finished") for worker in who))
        assert who[0].last("finished")["summary"]["weights_sha256"] == undisturbed


def test_a_lost_rank_and_a_smaller_mesh_leave_constant_buffers_as_they_are(
    pool, tmp_path, users_models
):
    """1. of two ranks one is killed in step 4; 2. the other one goes on alone, with the lost shards
    from the mirror."""
    undisturbed = weights(pool.train(job_of(tmp_path / "whole", "constant", **mesh(dp=2)), 2))
    kill = {"kind": "kill", "step": 4, "rank": 0, "point": "in-fold"}
    job = job_of(tmp_path / "job", "constant", elastic={"mirror_every": 1}, faults=[kill])
    places = {"run_directory": tmp_path, "staging": tmp_path / "shm"}
    with Workers(2, tmp_path / "workers") as node:
        killed, other = node.workers
        node.enter(1, job, **places)
        node.lost(killed)
        other.tell({"type": "interrupt", "generation": 1, "reason": "test"})
        node.until(lambda: other.last("left"))
        node.enter(2, job, who=[other], **places)
        node.until(lambda: other.last("finished"))
        assert other.last("entered")["source"] == "mirror"
        assert other.last("finished")["summary"]["weights_sha256"] == undisturbed
