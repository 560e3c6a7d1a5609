"""Buffers as state: taken over when a step counts, as they were when it does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from trainer.checkpoint.tensors import put_bytes
from trainer.errors import JobError
from trainer.job import TrainSection
from trainer.worker.ballot import Verdict
from trainer.worker.buffers import ModelBuffers
from trainer.worker.state import ModelState


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("shared", self.mean)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("waves", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("nan", torch.tensor(math.nan))
        self.register_buffer("nothing", None)
        self.register_buffer("passing", torch.zeros(2), persistent=False)
        self.inner = nn.BatchNorm1d(3, affine=False)
        self.same = self.inner

    def advance(self) -> None:
        """What a forward does: in place, by another tensor, and past autograd's counters."""
        self.seen += 1
        self.mean.data.add_(0.5)
        self.mask = ~self.mask
        self.passing += 1
        self.inner(torch.randn(4, 3))


def look(model: Model) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[n].nan_to_num(), b[n].nan_to_num()) for n in a
    )


CHANGING = ["seen", "mean", "shared", "mask"] + [
    f"{module}.{name}"
    for module in ("inner", "same")
    for name in ("running_mean", "running_var", "num_batches_tracked")
]


def state_of(model: Model, **train: object) -> ModelState:
    return ModelState(
        TrainSection(**train),
        dict(model.named_parameters()),
        ModelBuffers([model]),
        torch.device("cpu"),
        generation=1,
        facts={},
        samples_per_step=1,
    )


def test_it_has_the_names_and_values_of_the_state_dict() -> None:
    model = Model()
    state = state_of(model)
    assert same(state.weights(), look(model))
    assert state.untrained() == {f"model/{name}" for name in look(model).keys() - {"weight"}}
    assert set(state.tensors()) == {f"model/{name}" for name in look(model)} | {
        "optim/weight/exp_avg",
        "optim/weight/exp_avg_sq",
    }


def test_what_forwards_have_changed_is_seen_whatever_the_way() -> None:
    model = Model()
    buffers = ModelBuffers([model])
    assert not any(buffers.changed(buffers.kept))
    model.advance()
    changed = [
        n for n, flag in zip(buffers.kept, buffers.changed(buffers.kept), strict=True) if flag
    ]
    assert set(changed) == set(CHANGING)


def test_a_step_that_counts_takes_them_over_and_one_that_does_not_puts_them_back() -> None:
    model = Model()
    state = state_of(model)
    state.buffers.changing = [*CHANGING]
    before = look(model)
    model.advance()
    assert same(state.weights(), before), "nothing counts before the step is agreed on"
    state.apply(Verdict(loss=math.nan, norm=1.0, bad="its loss is nan"))
    assert same(look(model), before)
    assert state.version == 1

    model.advance()
    after = look(model)
    state.apply(Verdict(loss=1.0, norm=1.0))
    assert same(state.weights(), after)
    assert same(look(model), after)


def test_a_model_that_takes_the_state_over_has_them_live() -> None:
    giver, taker = Model(), Model()
    theirs, ours = state_of(giver), state_of(taker)
    theirs.buffers.changing = [*CHANGING]
    giver.advance()
    theirs.apply(Verdict(loss=1.0, norm=1.0))
    giver.advance()  # a step that is under way, and lost
    for name, tensor in theirs.local.items():
        for part in tensor.parts:
            put_bytes(ours.local[name].view_of(part.box), tensor.bytes_of(part.box))
    ours.become(theirs.version, theirs.values())
    assert taker.seen == 1
    assert same(look(taker), theirs.weights())
    assert taker.shared is taker.mean


def test_a_state_outlives_its_model_and_can_end_the_step() -> None:
    model = Model()
    state = state_of(model)
    state.buffers.changing = [*CHANGING]
    model.advance()
    expected = look(model)
    del model
    state.apply(Verdict(loss=1.0, norm=1.0))
    assert state.weights()["seen"] == expected["seen"] == 1
    assert torch.equal(state.weights()["mask"], expected["mask"])


def test_a_piece_that_nobody_counts_leaves_no_trace() -> None:
    model = Model()
    buffers, before, passing = ModelBuffers([model]), look(model), model.passing
    with buffers.untouched():
        model.advance()
        model.passing = torch.ones(5)
    assert same(look(model), before)
    assert model.passing is passing
    assert model.passing.tolist() == [0, 0]
    assert model.shared is model.mean


def test_bytes_from_another_rank_are_put_where_the_forward_left_something_else() -> None:
    model = Model()
    buffers = ModelBuffers([model])
    model.mean = torch.zeros(1).expand(3)  # can't be written to in place
    packed = torch.cat((torch.zeros(1, dtype=torch.uint8), torch.ones(3).view(torch.uint8)))
    buffers.fill("mean", packed[1:])
    assert model.mean.tolist() == [1, 1, 1]


def grow(model: Model) -> None:
    model.mean = torch.zeros(4)


def widen(model: Model) -> None:
    model.seen = model.seen + 0.5


def take_away(model: Model) -> None:
    model.mean = None


def bring(model: Model) -> None:
    model.nothing = torch.ones(2)


def register(model: Model) -> None:
    model.register_buffer("late", torch.ones(2))


def look_through(buffers: ModelBuffers, model: Model) -> None:
    buffers.check([model])
    buffers.changed(buffers.kept)


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (grow, r"mean another one: it was float32 \[3\] and is float32 \[4\]\. Give it"),
        (widen, r"seen another one: it was int64 \[\] and is float32 \[\]"),
        (take_away, "took the buffer mean away"),
        (bring, r"buffer nothing came with a forward: .* full shape .* persistent=False"),
        (register, "buffer late came with a forward"),
    ],
)
def test_what_could_not_be_taken_back_is_refused_by_name(forward, words) -> None:
    model = Model()
    buffers = ModelBuffers([model])
    forward(model)
    with pytest.raises(JobError, match=words):
        look_through(buffers, model)


def test_what_can_not_be_saved_is_refused_by_name() -> None:
    model = Model()
    model.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises(JobError, match=r"sparse is a torch\.sparse_coo tensor .* persistent=False"):
        ModelBuffers([model])


def test_one_name_on_two_stages_of_a_rank_has_one_value() -> None:
    first, second = Model(), Model()
    buffers = ModelBuffers([first, second])
    buffers.check()
    first.seen += 1
    with pytest.raises(JobError, match="seen has one name and several values"):
        buffers.check()
    second.seen += 1
    buffers.check()
    buffers.fill("seen", torch.tensor([9]).view(torch.uint8))
    assert first.seen == second.seen == 9
