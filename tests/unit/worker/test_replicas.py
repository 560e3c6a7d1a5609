"""What ranks hold alike is compared: who is in a group with whom, and what is said of differences.

Each rank is a thread here, and the exchange between them a barrier.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.checkpoint.fingerprint import CHUNK_WORDS, device_sum, fingerprint
from trainer.checkpoint.geometry import Box
from trainer.checkpoint.tensors import LocalTensor, Part
from trainer.errors import ReplicasDiffer
from trainer.worker.own.state import OwnState
from trainer.worker.replicas.check import ReplicaCheck
from trainer.worker.replicas.held import (
    Difference,
    Named,
    difference,
    differing,
    digests,
    grouped,
    held_once,
    layout_fault,
    split_settings,
)

# The bytes


@pytest.mark.parametrize("sum_up", [fingerprint, device_sum])
class TestFingerprints:
    def test_every_byte_counts_and_its_place(self, sum_up: Callable[..., Any]) -> None:
        one = torch.arange(24, dtype=torch.float32).reshape(4, 6)
        assert sum_up([one]) == sum_up([one.clone()])
        assert sum_up([one]) == sum_up([one.t().contiguous().t()])
        assert sum_up([one]) != sum_up([one.t()])
        swapped = one.clone()
        swapped[0, 0], swapped[3, 5] = one[3, 5].item(), one[0, 0].item()
        assert sum_up([one]) != sum_up([swapped])

    @pytest.mark.parametrize(
        ("value", "other"),
        [
            (0.0, -0.0),
            (math.nan, struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]),
            (1.0, math.nextafter(1.0, 2.0)),
        ],
    )
    def test_what_compares_equal_is_not_always_the_same(
        self, sum_up: Callable[..., Any], value: float, other: float
    ) -> None:
        def of(number: float) -> Tensor:
            return torch.tensor([1.0, number], dtype=torch.float64)

        assert sum_up([of(value)]) == sum_up([of(value)])
        assert sum_up([of(value)]) != sum_up([of(other)])

    @pytest.mark.parametrize(
        "dtype", [torch.bool, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.complex128]
    )
    def test_any_element_type(self, sum_up: Callable[..., Any], dtype: torch.dtype) -> None:
        zeros, ones = torch.zeros(3, dtype=dtype), torch.ones(3, dtype=dtype)
        assert sum_up([zeros, ones]) == sum_up([zeros.clone(), ones.clone()])
        assert sum_up([zeros, ones]) != sum_up([ones, zeros])

    def test_nothing_at_all(self, sum_up: Callable[..., Any]) -> None:
        assert sum_up([]) == sum_up([])
        assert sum_up([torch.zeros(0), torch.ones(1)]) == sum_up([torch.ones(1)])


def test_chunks_on_a_device_are_one_row() -> None:
    long = torch.arange(CHUNK_WORDS + 5, dtype=torch.int32)
    assert device_sum([long]) == device_sum([long[:7], long[7:]])
    assert device_sum([long]) != device_sum([long[:7], long[8:]])


# Who holds what


def held(name: str, placed: str = "", *, loose: bool = False, kind: str = "float32 [4]") -> Named:
    return Named(name, kind, placed, loose)


def local(**boxes: int) -> dict[str, LocalTensor]:
    """Each tensor has four elements, of which the rank has the half from there on."""
    return {
        name: LocalTensor("float32", (4,), (Part(Box((first,), (2,)), torch.zeros(2)),))
        for name, first in boxes.items()
    }


def signatures(tensors: Sequence[Named], parts: Mapping[str, LocalTensor]) -> set[str]:
    return {group.signature for group in grouped(tensors, parts, {})}


def test_replicas_of_a_shard_share_a_group_and_shards_do_not() -> None:
    tensors = [held("a", "(2,) Shard"), held("b", "(2,) Shard"), held("c")]
    ranks = [signatures(tensors, local(a=at, b=at, c=0)) for at in (0, 2, 0, 2)]
    assert ranks[0] == ranks[2]
    assert ranks[1] == ranks[3]
    # A plain tensor is in a group of its own, or its copies would be compared within a shard only.
    assert len(ranks[0] & ranks[1]) == 1
    rows = [dict.fromkeys(of_rank, "same") for of_rank in ranks[:2]]
    assert len(held_once(rows)) == 2


def test_what_not_all_ranks_have_is_a_group_of_its_own() -> None:
    parts = local(a=0, b=0)
    both = grouped([held("a"), held("b")], parts, {"a": [0], "b": [0, 1]})
    (one,) = grouped([held("b")], local(b=0), {"a": [0], "b": [0, 1]})
    assert [group.names for group in both] == [("a",), ("b",)]
    assert one.signature == both[1].signature


def test_a_fingerprint_is_compared_with_those_of_the_same_group() -> None:
    rows = [{"x": "1", "a": "5"}, {"x": "1", "b": "6"}, {"x": "2", "a": "5"}]
    assert differing(rows) == ["x"]
    assert held_once(rows) == {"b"}


def test_the_first_difference_is_named_with_the_ranks() -> None:
    details = [None, {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "1", "c": "1"}]
    assert difference(details, group="g", loose=False) is None
    details.append({"a": "1", "b": "2", "c": "2", "d": "1"})
    assert difference(details, group="g", loose=False) == Difference(
        group="g", names=("b", "c", "d"), count=3, rank=1, other=3, loose=False
    )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([["model/w", "float32 [4]", "", False]], [["model/w", "float32 [5]", "", False]], "[5]"),
        (
            [["model/w", "float32 [4]", "", False]],
            [["model/w", "float32 [4]", "(2,) (Shard(dim=0),)", False]],
            "placed (2,) (Shard(dim=0),) on rank 3",
        ),
        (
            [["model/net.w", "float32 [4]", "", False]],
            [["model/module.net.w", "float32 [4]", "", False]],
            "rank 0 has model/net.w where rank 3 has model/module.net.w: wrap the model",
        ),
        (
            [["model/_orig_mod.w", "float32 [4]", "", False]],
            [["model/w", "float32 [4]", "", False]],
            "wrap the model",
        ),
    ],
)
def test_models_that_are_not_one_are_told_apart(first: list, second: list, said: str) -> None:
    fault = layout_fault([first, second], [0, 3])
    assert fault is not None
    assert said in fault


def test_ranks_may_have_different_tensors() -> None:
    # Stages of a pipeline; and a model whose own part is called `module`, which both ranks have.
    own = [[f"ema/{name}", "float32 [4]", "", False] for name in ("module.w", "w")]
    first, second = [["model/0.w", "float32 [4]", "", False]], [["model/1.w", "int8 [4]", "", True]]
    assert layout_fault([first + own, own[::-1] + second], [0, 1]) is None


def test_settings_are_told_by_their_innermost_paths() -> None:
    values = {"version": 3, "own": {"optim0": {"~map": [["groups", [{"~map": [["lr", 0.1]]}]]]}}}
    strict, loose = split_settings(values | {"own2": {}}, {"own/optim0"})
    assert (strict, loose) == ({"version": 3}, {"own/optim0": values["own"]["optim0"]})
    assert list(digests(loose)) == ["optim0/groups/0/lr"]


# Ranks


class Meeting:
    """Where the threads that stand for ranks exchange JSON."""

    def __init__(self, size: int) -> None:
        self.barrier = Barrier(size)
        self.values: list[str] = [""] * size
        self.exchanges = 0


class ThreadExchange:
    """One rank's end, as trainer/checkpoint/exchange.py's."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.rank, self.world_size = rank, len(meeting.values)
        self._meeting = meeting

    def all_gather(self, value: Any) -> list[Any]:
        if self.rank == 0:
            self._meeting.exchanges += 1
        self._meeting.values[self.rank] = json.dumps(value)
        self._meeting.barrier.wait(timeout=60)
        found = [json.loads(text) for text in self._meeting.values]
        self._meeting.barrier.wait(timeout=60)
        return found

    def broadcast(self, value: Any, *, source: int = 0) -> Any:
        return self.all_gather(value)[source]


class Ranks:
    """States of several ranks, and their comparisons."""

    def __init__(self, states: Sequence[OwnState]) -> None:
        self.states = states
        self.reports: list[Difference] = []
        self.meeting = Meeting(len(states))
        self._checks = [
            ReplicaCheck(
                ThreadExchange(self.meeting, rank), remedy="mend it", report=self.reports.append
            )
            for rank in range(len(states))
        ]

    def compare(self) -> list[str]:
        """What each rank raised; empty where it raised nothing."""

        def on_rank(rank: int) -> str:
            try:
                self._checks[rank].compare(self.states[rank])
            except ReplicasDiffer as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(len(self.states)) as pool:
            return list(pool.map(on_rank, range(len(self.states))))


class Counter:
    """An extra of plain values."""

    def __init__(self, count: int) -> None:
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def trained(*, seed: int = 0, lr: float = 0.1, place: int = 0) -> OwnState:
    """A state after one step; a batch norm has seen other samples for another seed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    state = OwnState({"model": model}, [optimizer], {"loader": Counter(place)})
    model(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model[1].running_mean.fill_(float(seed))
    state.settle(1, made_in=1)
    return state


def test_ranks_that_are_alike_take_one_exchange() -> None:
    ranks = Ranks([trained() for _ in range(3)])
    assert ranks.compare() == [""] * 3
    assert ranks.meeting.exchanges == 1
    assert not ranks.reports


def test_one_rank_has_nobody_to_compare_with() -> None:
    ranks = Ranks([trained()])
    assert ranks.compare() == [""]
    assert ranks.meeting.exchanges == 0


def test_a_parameter_that_differs_is_named_on_every_rank() -> None:
    ranks = Ranks([trained() for _ in range(3)])
    with torch.no_grad():
        ranks.states[2].parameters["model/0.weight"][0, 0] += 1
    assert set(ranks.compare()) == {
        "model/0.weight differs between ranks 0 and 2 after step 1, and one rank's would be "
        "taken for all: mend it"
    }


def test_moments_count_as_well() -> None:
    ranks = Ranks([trained() for _ in range(2)])
    moments = ranks.states[1].tensors()
    moments["optim0/model/0.bias/exp_avg"].add_(1)
    moments["optim0/model/1.bias/exp_avg"].add_(1)
    (said, _) = ranks.compare()
    assert said.startswith("optim0/model/0.bias/exp_avg and 1 more differ between ranks 0 and 1")


def test_a_rate_that_differs_is_named() -> None:
    (said, again) = Ranks([trained(), trained(lr=0.2)]).compare()
    # One step at another rate has made other weights, too; those come first.
    assert said == again
    assert said.startswith("model/0.weight and ")
    ranks = Ranks([trained(), trained()])
    ranks.states[1].optimizers[0].param_groups[0]["lr"] = 0.2
    ranks.states[1].settle(1, made_in=1)
    (said, _) = ranks.compare()
    assert said.startswith("optim0/groups/0/lr differs between ranks 0 and 1")
    assert "give every rank the same" in said


def test_what_may_differ_is_told_once_and_kept_as_rank_0_has_it() -> None:
    ranks = Ranks([trained(seed=1, place=10), trained(seed=2, place=20), trained(seed=3, place=30)])
    assert ranks.compare() == [""] * 3
    assert [report.names for report in ranks.reports] == [
        ("model/1.running_mean",),
        ("extra/loader/count",),
    ]
    for seed, state in enumerate(ranks.states, start=1):
        assert state.tensors()["model/1.running_mean"].tolist() == [1.0, 1.0]
        assert state.values()["own"] == ranks.states[0].values()["own"]
        # What the user's forward goes on with is the user's.
        assert dict(state._live_buffers())["model/1.running_mean"].tolist() == [seed, seed]
    for state in ranks.states:
        state.settle(2, made_in=1)
    assert ranks.compare() == [""] * 3
    assert len(ranks.reports) == 2
    assert ranks.states[2].tensors()["model/1.running_mean"].tolist() == [1.0, 1.0]


def test_tensors_that_only_some_ranks_have_are_compared_among_those() -> None:
    def untrained(*parts: str) -> OwnState:
        torch.manual_seed(0)
        return OwnState({part: nn.Linear(2, 1) for part in ("all", *parts)}, [], {})

    ranks = Ranks([untrained(), untrained("some"), untrained("some"), untrained("one")])
    assert ranks.compare() == [""] * 4
    before = ranks.meeting.exchanges
    assert ranks.compare() == [""] * 4
    assert ranks.meeting.exchanges == before + 1
    with torch.no_grad():
        ranks.states[3].parameters["one/bias"] += 1
    assert ranks.compare() == [""] * 4
    with torch.no_grad():
        ranks.states[2].parameters["some/bias"] += 1
    (said, *_) = ranks.compare()
    assert said.startswith("some/bias differs between ranks 1 and 2 after step 0 (but not after")


def test_a_model_that_is_wrapped_on_one_rank_only_is_refused() -> None:
    wrapped = OwnState({"model": nn.ModuleDict({"module": nn.Linear(2, 1)})}, [], {})
    (said, again) = Ranks([OwnState({"model": nn.Linear(2, 1)}, [], {}), wrapped]).compare()
    assert said == again
    assert "wrap the model on every rank, or on none" in said
