"""Which data-parallel rank computes which piece of the global batch, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """One pass of every data-parallel rank over one piece each.

    `first` is the piece of rank 0; the first `live` ranks hold a piece of their own. The
    others take part in the collectives with a piece that is computed but never added.
    """

    first: int
    live: int

    def piece_of(self, dp_rank: int) -> int:
        """The piece that `dp_rank` computes; a rank without one of its own repeats the first."""
        return self.first + dp_rank if self.counts(dp_rank) else self.first

    def counts(self, dp_rank: int) -> bool:
        return dp_rank < self.live


def rounds(pieces: int, dp_size: int) -> list[Round]:
    """Cut `pieces` into rounds of `dp_size`, in piece order; the last may be partial."""
    if pieces < 1 or dp_size < 1:
        raise ValueError(f"need at least one piece and one rank, got {pieces} and {dp_size}")
    return [Round(first, min(dp_size, pieces - first)) for first in range(0, pieces, dp_size)]
