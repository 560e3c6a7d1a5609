"""An index-addressed stream: sample i is a pure function of (seed, i)."""

from trainer.data.batches import Batches, Piece, open_batches
from trainer.data.corpus import Corpus, open_corpus
from trainer.data.permutation import Permutation
from trainer.data.samples import Samples, open_samples

__all__ = [
    "Batches",
    "Corpus",
    "Permutation",
    "Piece",
    "Samples",
    "open_batches",
    "open_corpus",
    "open_samples",
]
