"""How the host tells what the ranks put into a collective from what a cut one left behind. Pure.

gloo raises when a collective is cut. NCCL only ends it: the call has long returned, and the host
reads what lay in the buffer. A rank whose communicator is aborted even runs to the end of its
kernel, and what it then hands on to its neighbours is marked as good: they may be given nonsense
before they have heard themselves that the generation is over. So to ask whether it still stands is
not enough; whatever the host is to believe carries its proof, and the proof is bound to the turn,
since what lies in a buffer is often an earlier turn's.

Bytes travel behind a header that its sender has sealed. Sums carry who took part, and two
polynomials over all the numbers: both are linear, so they hold for the sums as for each row.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from trainer.errors import ContactLost

_HEADER = struct.Struct("<QQQ")
HEADER_BYTES = _HEADER.size
_BOUND = struct.Struct("<QQQQ")
_PRIMES = ((1 << 31) - 1, (1 << 31) - 19)
"""A row's check is below 2^31, so that an int64 has room for those of four thousand million rows;
what the two primes together let pass by chance is one in 2^62."""
_WITNESSES = 3
"""Numbers at the head of a row that say who gave it: one, its rank, and the square of that."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What a header says of the payload that belongs to it: its bytes and their hash."""

    length: int
    digest: int

    def proven(self, payload: bytes) -> bytes:
        """The payload. Raises ContactLost for one that is not what was sealed."""
        if len(payload) != self.length or xxhash.xxh3_64_intdigest(payload) != self.digest:
            raise ContactLost(_WHAT)
        return payload


_WHAT = (
    "a collective was cut: what it returned is not what the ranks put into it. A peer is gone or "
    "has left the generation; its node's log says why"
)


def header(payload: bytes, *, turn: int, rank: int) -> bytes:
    """HEADER_BYTES that `rank` sends before, or instead of, the payload in this turn."""
    length, digest = len(payload), xxhash.xxh3_64_intdigest(payload)
    return _HEADER.pack(length, digest, _seal(length, digest, turn, rank))


def opened(data: bytes, *, turn: int, rank: int) -> Seal:
    """What `header` gave. Raises ContactLost where `rank` has not sealed this for this turn."""
    length, digest, seal = _HEADER.unpack_from(data)
    if seal != _seal(length, digest, turn, rank):
        raise ContactLost(_WHAT)
    return Seal(length, digest)


def _seal(length: int, digest: int, turn: int, rank: int) -> int:
    return xxhash.xxh3_64_intdigest(_BOUND.pack(length, digest, turn, rank))


def row(numbers: Sequence[int], *, turn: int, rank: int) -> list[int]:
    """What `rank` gives to be summed: the numbers among witnesses and checks.

    The sums have to stay within an int64.
    """
    body = [1, rank, rank * rank, *numbers]
    return [*body, *(_check(body, turn, prime) for prime in _PRIMES)]


def proven_sums(sums: Sequence[int], *, turn: int, ranks: int) -> list[int]:
    """The sums of the numbers of `ranks` rows. Raises ContactLost where a row is not in them."""
    body, checks = sums[: -len(_PRIMES)], sums[-len(_PRIMES) :]
    last = ranks - 1
    everybody = [ranks, last * ranks // 2, last * ranks * (2 * ranks - 1) // 6]
    whole = all(
        (_check(body, turn, prime) - check) % prime == 0
        for prime, check in zip(_PRIMES, checks, strict=True)
    )
    if not whole or list(body[:_WITNESSES]) != everybody:
        raise ContactLost(_WHAT)
    return list(body[_WITNESSES:])


def _check(body: Sequence[int], turn: int, prime: int) -> int:
    """A polynomial whose coefficients are the numbers, at a place that is the turn's own."""
    place = xxhash.xxh3_64_intdigest(turn.to_bytes(8, "little"), seed=prime) % prime
    value = 0
    for number in body:
        value = (value + number) * place % prime
    return value
