"""What is told of buffers that forwards change."""

from __future__ import annotations

from trainer.worker.buffer_notes import notes_on
from trainer.worker.buffer_sharing import Change


def test_nothing_is_told_of_nothing() -> None:
    assert notes_on([], data_size=2, compiled=set()) == []


def test_each_kind_is_told_by_name_and_for_which_meshes_the_bits_hold() -> None:
    changes = [
        Change("bn.running_mean", "ranks"),
        Change("seen", "forwards"),
        Change("cache", "passing"),
    ]
    ranks, forwards, passing = notes_on(changes, data_size=2, compiled=set())
    assert ranks.text == (
        "buffer bn.running_mean depends on what each rank sees: all go on with the first rank's, "
        "and the bits hold on meshes with the same data-parallel size only (here 2)"
    )
    assert forwards.text.startswith("buffer seen changes with every forward")
    assert "the same data-parallel size only (here 2)" in forwards.text
    assert "cache is changed by the forward, but not persistent: it begins anew" in passing.text
    assert (passing.names, passing.total) == (("cache",), 1)


def test_many_are_counted() -> None:
    changes = [Change(f"bn{number}.running_mean", "ranks") for number in range(300)]
    (note,) = notes_on(changes, data_size=4, compiled=set())
    assert note.text.startswith(
        "buffers bn0.running_mean, bn1.running_mean, bn2.running_mean and 297 more depend on"
    )
    assert (len(note.names), note.total) == (3, 300)


def test_compiled_code_is_warned_of() -> None:
    changes = [Change("a.seen", "forwards"), Change("b.seen", "passing")]
    told = notes_on(changes, data_size=1, compiled={"a.seen", "b.seen"})
    assert ["compiled code" in note.text for note in told] == [True, False]
    told = notes_on(changes, data_size=1, compiled={"c"})
    assert ["compiled code" in note.text for note in told] == [False, False]
