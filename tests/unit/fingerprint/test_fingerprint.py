"""Which failures are one and the same, and which may pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trainer.fingerprint import MAX_LENGTH, last_words, of_exception, of_output


def caught(function: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as raised:
        function()
    return raised.value


def bad_shapes(rank: int) -> None:
    raise ValueError(f"rank {rank}: (4x{rank}) does not fit, at 0x7f{rank:04x}")


def test_ranks_that_fail_alike_have_one_fingerprint() -> None:
    first, second = (of_exception(caught(lambda r=rank: bad_shapes(r))) for rank in (0, 31))
    assert first == second
    assert first.startswith("ValueError: rank #: (#x#) does not fit, at # in bad_shapes, test_fing")


def test_another_kind_message_or_place_is_another_error() -> None:
    def here() -> None:
        raise ValueError("one")

    def there() -> None:
        raise ValueError("one")

    def other() -> None:
        raise ValueError("two")

    def kind() -> None:
        raise TypeError("one")

    found = {of_exception(caught(f)) for f in (here, there, other, kind)}
    assert len(found) == 4
    assert "" not in found


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("no"),
        OSError(5, "Input/output error"),
        TimeoutError(),
        MemoryError(),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("NCCL communicator was aborted"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        type("OutOfMemoryError", (RuntimeError,), {})("tried to allocate 2 GiB"),
        type("DistBackendError", (RuntimeError,), {})("x"),
        type("HTTPError", (Exception,), {})("503"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_comes_from_around_the_process_may_pass(error: Exception) -> None:
    def directly() -> None:
        raise error

    def as_its_cause() -> None:
        raise ValueError("no tokenizer") from error

    def in_its_handling() -> None:
        try:
            raise error
        except type(error):
            raise ValueError("no tokenizer")  # noqa: B904 - that it is not said is the point

    assert [of_exception(caught(f)) for f in (directly, as_its_cause, in_its_handling)] == [""] * 3


def test_a_file_that_is_not_there_does_not_appear_by_itself() -> None:
    assert of_exception(caught(lambda: open("/nowhere/shard-0001.bin"))) != ""  # noqa: PTH123, SIM115


def test_a_context_that_was_put_aside_says_nothing() -> None:
    def raises() -> None:
        try:
            raise ConnectionError
        except ConnectionError:
            raise KeyError("model") from None

    assert of_exception(caught(raises)) != ""


def test_a_fingerprint_is_short() -> None:
    def long() -> None:
        raise ValueError("x" * 10_000)

    assert len(of_exception(caught(long))) <= MAX_LENGTH
    assert " in long, test_fingerprint.py:" in of_exception(caught(long))


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", ""),
        ("one\n\ntwo\n \n", "two"),
        (
            "noise\nTraceback (most recent call last):\n  File 'x'\n    f()\n    ^^^\n"
            "pkg.OddError: no\nsome library says goodbye\n",
            "pkg.OddError: no",
        ),
        (
            "[rank1]: Traceback (most recent call last):\n[rank1]:   File 'x'\n"
            "[rank1]: ValueError: no\n[rank1]:[W123] destroyed late",
            "ValueError: no",
        ),
        (
            "Traceback (most recent call last):\n  a\nKeyError: 'first'\n\nDuring handling:\n\n"
            "Traceback (most recent call last):\n  b\nValueError: second\n",
            "ValueError: second",
        ),
        ("Fatal Python error: Aborted\n\nCurrent thread 0x1:\n  File 'x'\n", None),
        ('  File "x.py", line 1\n    def\n       ^\nSyntaxError: invalid syntax\n', None),
    ],
)
def test_the_line_that_tells_why_is_found(output: str, line: str | None) -> None:
    expected = {"F": "Fatal Python error: Aborted", " ": "SyntaxError: invalid syntax"}
    assert last_words(output) == (expected[output[0]] if line is None else line)


def test_the_last_line_is_judged_as_the_exception_would_be() -> None:
    assert (
        of_output("ImportError: libx.so.12: cannot open") == "ImportError: libx.so.#: cannot open"
    )
    assert of_output("device 3 is not there") == "device # is not there"
    for passing in ("OSError: libx.so: cannot open", "urllib.error.URLError: no", "NCCL is gone"):
        assert of_output(passing) == ""
    assert of_output("") == ""
