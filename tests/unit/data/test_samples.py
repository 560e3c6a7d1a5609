"""Sample i is a pure function of (seed, i); a batch is the same on any mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.data import open_batches, open_samples
from trainer.errors import JobError
from trainer.job import from_mapping


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(bytes(index % 251 for index in range(8 * 50 + 1)))
    return path


def job_of(corpus=None, seed=0, train=None, **data):
    path = {} if corpus is None else {"path": str(corpus)}
    return from_mapping(
        {
            "model": {},
            "data": {"seq_len": 8, **path, **data},
            "train": {"pieces": 3, "microbatches": 2, **(train or {})},
            "run": {"seed": seed},
        }
    )


def test_an_epoch_predicts_every_byte_once(corpus):
    samples = open_samples(job_of(corpus))
    assert samples.epoch_size == 50
    whole = corpus.read_bytes()
    seen = {samples[index].astype(np.uint8).tobytes() for index in range(50)}
    assert seen == {whole[at : at + 9] for at in range(0, 400, 8)}


def test_each_epoch_has_an_order_of_its_own(corpus):
    samples = open_samples(job_of(corpus))
    first, second = (
        [samples[epoch * 50 + index].tobytes() for index in range(50)] for epoch in (0, 1)
    )
    assert first != second
    assert sorted(first) == sorted(second)


def test_without_shuffling_samples_come_as_they_lie(corpus):
    samples = open_samples(job_of(corpus, shuffle=False))
    assert samples[0].tolist() == list(range(9))
    assert samples[51].tolist() == list(range(8, 17))


def test_a_sample_depends_on_seed_and_index_alone(corpus):
    samples, again = open_samples(job_of(corpus)), open_samples(job_of(corpus))
    backwards = [again[index].tolist() for index in reversed(range(120))][::-1]
    assert [samples[index].tolist() for index in range(120)] == backwards
    other = open_samples(job_of(corpus, seed=1))
    assert [samples[i].tolist() for i in range(50)] != [other[i].tolist() for i in range(50)]


def test_a_batch_is_tokens_targets_and_keys(corpus):
    batches = open_batches(job_of(corpus, train={"microbatch_size": 2}))
    piece = batches.batch(4, 1)
    assert piece.tokens.shape == piece.targets.shape == (4, 8)
    assert piece.tokens.dtype == piece.targets.dtype == piece.keys.dtype == torch.int64
    assert torch.equal(piece.tokens[:, 1:], piece.targets[:, :-1])
    assert piece.keys.tolist() == [52, 53, 54, 55]
    assert batches.samples_per_step == 12


def test_steps_and_pieces_use_each_sample_exactly_once(corpus):
    batches = open_batches(job_of(corpus))
    used = [
        key
        for step in range(5)
        for piece in range(3)
        for key in batches.batch(step, piece).keys.tolist()
    ]
    assert used == list(range(5 * 6))


def test_a_piece_that_there_is_not(corpus):
    with pytest.raises(IndexError, match="piece 3 is not within 0 … 2"):
        open_batches(job_of(corpus)).batch(0, 3)


def test_a_corpus_too_small(tmp_path):
    small = tmp_path / "small"
    small.write_bytes(b"12345678")
    with pytest.raises(JobError, match=r"has 8 bytes and a sample takes 9; add text"):
        open_samples(job_of(small))


def test_a_vocabulary_too_small_for_bytes(corpus):
    job = from_mapping({"model": {"vocab": 128}, "data": {"path": str(corpus), "seq_len": 8}})
    with pytest.raises(JobError, match=r"model\.vocab: 128 is too small for bytes"):
        open_samples(job)


class TestFactory:
    @pytest.fixture(autouse=True)
    def users_datasets(self, monkeypatch):
        monkeypatch.syspath_prepend(Path(__file__).parent)

    def job(self, function, **data):
        return job_of(factory=f"datasets_of_users:{function}", **data)

    def test_a_dataset_of_tensors_and_one_of_arrays(self):
        samples = open_samples(self.job("counting", shuffle=False, args={"size": 5}))
        assert samples.epoch_size == 5
        assert samples[7].tolist() == list(range(2, 11))
        assert open_samples(self.job("listed", shuffle=False))[3].tolist() == [3] * 9

    @pytest.mark.parametrize(
        ("function", "expected"),
        [
            ("empty", "returned an empty dataset"),
            ("endless", "has no __len__ and __getitem__"),
            ("none", "has no function none"),
        ],
    )
    def test_mistakes(self, function, expected):
        with pytest.raises(JobError) as caught:
            open_samples(self.job(function))
        assert expected in str(caught.value)

    def test_items_of_another_shape_or_type(self):
        with pytest.raises(JobError, match="asks for 9 whole numbers"):
            open_samples(self.job("counting", args={"length": 8}))[0]
        with pytest.raises(JobError, match="type float64"):
            open_samples(self.job("floating"))[0]
