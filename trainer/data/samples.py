"""Sample i of a job: a pure function of (seed, i) over the data, whatever the mesh."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from trainer.data.corpus import BYTE_VOCABULARY, Corpus, open_corpus
from trainer.data.permutation import Permutation
from trainer.errors import JobError
from trainer.job import Job
from trainer.job.factory import call_factory, find_factory

Tokens = npt.NDArray[np.int64]


class Windows(Protocol):
    """Items of `seq_len + 1` token numbers each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class CorpusWindows:
    """A corpus cut into windows that predict each byte but the first exactly once."""

    def __init__(self, corpus: Corpus, seq_len: int) -> None:
        self._corpus = corpus
        self._seq_len = seq_len

    def __len__(self) -> int:
        return max(0, (len(self._corpus) - 1) // self._seq_len)

    def __getitem__(self, index: int) -> Tokens:
        return self._corpus.read(index * self._seq_len, self._seq_len + 1).astype(np.int64)


class Samples:
    """An endless stream, addressed by index; each epoch has an order of its own."""

    def __init__(self, windows: Windows, seq_len: int, *, seed: int, shuffle: bool) -> None:
        self._windows = windows
        self._seq_len = seq_len
        self._seed = seed
        self._shuffle = shuffle
        self._order = lru_cache(maxsize=4)(self._order_of)

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch."""
        return len(self._windows)

    def __getitem__(self, index: int) -> Tokens:
        """The tokens of sample `index`: [seq_len + 1] int64.

        Raises:
            JobError: the user's dataset returns something else.
        """
        tokens = np.asarray(self._windows[self.item(index)])
        if tokens.shape != (self._seq_len + 1,) or tokens.dtype.kind not in "iu":
            raise JobError(
                f"data.factory: an item has shape {tuple(tokens.shape)} and type {tokens.dtype}; "
                f"data.seq_len asks for {self._seq_len + 1} whole numbers"
            )
        return tokens.astype(np.int64, copy=False)

    def item(self, index: int) -> int:
        """Which item of the data sample `index` is."""
        epoch, place = divmod(index, len(self._windows))
        return self._order(epoch)(place) if self._shuffle else place

    def _order_of(self, epoch: int) -> Permutation:
        return Permutation(len(self._windows), f"order/{self._seed}/{epoch}".encode())


def open_samples(job: Job) -> Samples:
    """The job's stream.

    Raises:
        JobError: the data can't be read, or doesn't hold one sample, or the vocabulary is too
            small for it.
    """
    section = job.data
    windows: Windows
    if section.factory is not None:
        factory = find_factory(section.factory, "data.factory")
        windows = call_factory(factory, section.args, f"data.factory ({section.factory})")
        if not hasattr(windows, "__len__") or not hasattr(windows, "__getitem__"):
            raise JobError(
                f"data.factory: {section.factory} returned {type(windows).__name__}, which has "
                "no __len__ and __getitem__; return a map-style dataset"
            )
        if len(windows) == 0:
            raise JobError(f"data.factory: {section.factory} returned an empty dataset")
    else:
        corpus = open_corpus(section.path)
        windows = CorpusWindows(corpus, section.seq_len)
        if len(windows) == 0:
            raise JobError(
                f"data.path: the corpus has {len(corpus)} bytes and a sample takes "
                f"{section.seq_len + 1}; add text or lower data.seq_len"
            )
        if job.model.factory is None and job.model.sizes().vocab < BYTE_VOCABULARY:
            raise JobError(
                f"model.vocab: {job.model.sizes().vocab} is too small for bytes; use at least "
                f"{BYTE_VOCABULARY}"
            )
    return Samples(windows, section.seq_len, seed=job.run.seed, shuffle=section.shuffle)
