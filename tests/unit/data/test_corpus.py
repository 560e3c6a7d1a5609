"""Text as bytes: which files, in which order, and reads across them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data import Corpus, open_corpus
from trainer.errors import JobError


def text_of(corpus):
    return corpus.read(0, len(corpus)).tobytes()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def tree(tmp_path):
    for name, content in {
        "b.txt": "bb",
        "a.txt": "aaa",
        "empty.txt": "",
        "sub/c.txt": "c",
        "sub/d.md": "dddd",
        "__pycache__/x.txt": "hidden",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["*.txt"], b"aaabb"),
        (["**/*.txt"], b"hiddenaaabbc"),
        (["b.txt", "a.txt"], b"bbaaa"),
        (["sub"], b"cdddd"),
        (["."], b"aaabbcdddd"),
        (["sub/*.md", "b.txt"], b"ddddbb"),
    ],
)
def test_files_directories_and_globs(tree, monkeypatch, paths, expected):
    monkeypatch.chdir(tree)
    assert text_of(open_corpus(paths)) == expected


def test_a_path_that_names_no_file(tree):
    with pytest.raises(JobError, match=r"nothing\*\.txt names no file"):
        open_corpus([f"{tree}/nothing*.txt"])


def test_the_home_directory(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert text_of(open_corpus(["~/b.txt"])) == b"bb"


@given(data=st.data(), parts=st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=90))
def test_any_read_is_a_slice_of_the_whole(data, parts, tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    files = []
    for number, part in enumerate(parts):
        path = root / f"{number:03}"
        path.write_bytes(part)
        files.append((path, len(part)))
    corpus, whole = Corpus(files), b"".join(parts)
    assert len(corpus) == len(whole)
    begin = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(1, len(whole) - begin))
    assert corpus.read(begin, length).tobytes() == whole[begin : begin + length]


def test_many_files_need_few_descriptors(tmp_path):
    files = []
    for number in range(300):
        path = tmp_path / str(number)
        path.write_bytes(b"ab")
        files.append((path, 2))
    before = open_files()
    assert len(Corpus(files).read(0, 600)) == 600
    corpus = Corpus(files)
    corpus.read(0, 600)
    assert open_files() - before < 80


def test_a_file_that_shrank_or_went(tree):
    corpus = open_corpus([str(tree / "a.txt"), str(tree / "b.txt")])
    (tree / "a.txt").write_text("a")
    with pytest.raises(JobError, match=r"a\.txt became shorter"):
        corpus.read(0, 5)
    (tree / "b.txt").unlink()
    with pytest.raises(JobError, match=r"can't read .*b\.txt: No such file"):
        corpus.read(3, 1)


def test_the_standard_library_is_text_enough():
    corpus = open_corpus(None)
    assert len(corpus) > 5_000_000
    assert b"import" in corpus.read(0, 100_000).tobytes()


def test_what_befell_this_process_alone_is_no_mistake_of_the_jobs(tree):
    corpus = open_corpus([str(tree)])
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match=r"data\.path: can't read .*: Too many open files"):
            text_of(corpus)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert text_of(corpus)
