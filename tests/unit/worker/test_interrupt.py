"""What an interrupt cuts is never believed, because the end is marked before it strikes."""

from __future__ import annotations

import pytest

from trainer.errors import ContactLost, GenerationOver
from trainer.worker.interrupt import Interruption
from trainer.worker.outcome import lost_contact

STRIKES = ("_cut", "_abort_communicators")


@pytest.mark.parametrize(
    ("end", "error"),
    [(lambda it: it.strike("so"), GenerationOver), (lambda it: it.disconnect(), ContactLost)],
    ids=["strike", "disconnect"],
)
def test_whoever_reads_what_was_cut_sees_the_end(
    monkeypatch: pytest.MonkeyPatch, end, error
) -> None:
    interruption, struck = Interruption(1), []
    for name in STRIKES:

        def strikes(self: Interruption, name: str = name) -> None:
            with pytest.raises(error):
                self.check()
            struck.append(name)

        monkeypatch.setattr(Interruption, name, strikes)
    interruption.check()
    end(interruption)
    assert struck == list(STRIKES)


def test_a_cut_collective_means_that_a_peer_is_gone() -> None:
    assert lost_contact(ContactLost("a collective was cut"))
