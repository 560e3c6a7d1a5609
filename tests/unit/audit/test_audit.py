"""Records that hold, and records that somebody or something has spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.audit import Audit, audit, read_record
from trainer.audit.samples import epoch_problems, order_problems
from trainer.command import main
from trainer.data import Batches, Samples
from trainer.errors import JobError
from trainer.job import from_mapping
from trainer.job.learning_rate import learning_rate

STEPS = 12
TOKENS = 4 * 2 * 1 * 16
JOB = {
    "name": "audited",
    "model": {"preset": "debug"},
    "data": {"seq_len": 16},
    "train": {"steps": STEPS, "pieces": 4, "microbatches": 2, "schedule": {"warmup": 3}},
    "elastic": {"nodes": "1:2", "nproc_per_node": 2},
}


class Run:
    """A run of three generations: the second went back by two steps, the third took over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        corpus = root / "corpus.txt"
        corpus.write_text("all work and no play makes jack a dull boy. " * 40)
        self.job: dict[str, Any] = {**JOB, "data": {**JOB["data"], "path": str(corpus)}}
        schedule = from_mapping(self.job).train
        self.metrics = [
            {
                "step": step,
                "loss": 5.0 - step / 10,
                "lr": learning_rate(schedule, step - 1),
                "tokens": TOKENS,
                "step_seconds": 0.1,
                "generation": 1 if step <= 6 else 2 if step <= 9 else 3,
                "world_size": 4 if step <= 6 else 2,
            }
            for step in range(1, STEPS + 1)
        ]
        self.events = [
            {"event": "run.begin", "generation": 1},
            self.begin(1, ["a", "b"]),
            *self.restored(1, "init", 0, ranks=4),
            self.begin(2, ["a"]),
            *self.restored(2, "mirror", 4, ranks=2),
            self.begin(3, ["a"]),
            *self.restored(3, "peers", 9, ranks=2),
        ]
        self.summary: dict[str, Any] = {
            "status": "completed",
            "steps": STEPS,
            "lost_steps": 2,
            "wall_seconds": 3.0,
            "good_seconds": 1.0,
            "stood_still_seconds": 0.5,
            "other_seconds": 1.5,
        }

    @staticmethod
    def begin(number: int, nodes: list[str]) -> dict[str, Any]:
        return {
            "event": "generation.begin",
            "generation": number,
            "world_size": 2 * len(nodes),
            "nodes": nodes,
        }

    @staticmethod
    def restored(number: int, source: str, version: int, *, ranks: int) -> list[dict[str, Any]]:
        told = {"event": "state.restored", "generation": number}
        return [{**told, "source": source, "version": version, "rank": r} for r in range(ranks)]

    def write(self) -> Path:
        (self.root / "job.yaml").write_text(yaml.safe_dump(self.job))
        for name, lines in (("metrics", self.metrics), ("events", self.events)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (self.root / f"{name}.jsonl").write_text(text)
        (self.root / "summary.json").write_text(json.dumps(self.summary))
        return self.root

    def audit(self) -> Audit:
        return audit(read_record(self.write()))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "r")


def failed(found: Audit) -> dict[str, str]:
    return {check.name: check.text for check in found.checks if check.status == "failed"}


def test_a_run_with_failures_whose_record_holds(run: Run) -> None:
    found = run.audit()
    assert failed(found) == {}
    assert found.sound
    told = {check.name: check.text for check in found.checks}
    assert told["steps"] == "1 to 12, each once and in order"
    assert told["batch"] == "8 samples, 128 tokens a step; 1,536 in all"
    assert told["restores"] == "generation 2 went back 2: lost steps, counted once"
    assert told["order"] == "samples 0 to 95 of the stream, each once and in order"
    assert "none twice within one" in told["epochs"]


def missing(run: Run) -> None:
    del run.metrics[4]


def missing_at_a_change(run: Run) -> None:
    """Generation 2 goes on two steps past what generation 1 counted."""
    del run.metrics[5:7]
    for event in run.events:
        if event["event"] == "state.restored" and event["generation"] == 2:
            event["version"] = 7


def doubled(run: Run) -> None:
    run.metrics.insert(5, dict(run.metrics[4]))


def before_the_first(run: Run) -> None:
    run.metrics.insert(0, {**run.metrics[0], "step": 0})


def out_of_order(run: Run) -> None:
    run.metrics[4], run.metrics[5] = run.metrics[5], run.metrics[4]


def other_rate(run: Run) -> None:
    run.metrics[7]["lr"] *= 1 + 1e-9


def other_tokens(run: Run) -> None:
    run.metrics[7]["tokens"] = TOKENS // 2


def one_generation_again(run: Run) -> None:
    run.events.append(run.begin(2, ["a"]))


def a_step_of_no_generation(run: Run) -> None:
    run.metrics[-1]["generation"] = 9


def a_step_of_an_older_generation(run: Run) -> None:
    run.metrics[-1]["generation"] = 2


def more_ranks_than_there_were(run: Run) -> None:
    run.metrics[-1]["world_size"] = 4


def two_versions_at_once(run: Run) -> None:
    run.events[-1]["version"] = 8


def a_version_from_nowhere(run: Run) -> None:
    for event in run.events[-2:]:
        event["version"] = 11


def steps_lost_and_not_counted(run: Run) -> None:
    run.summary["lost_steps"] = 0


def steps_said_to_be_lost_and_not_lost(run: Run) -> None:
    run.summary["lost_steps"] = 5


def an_early_end(run: Run) -> None:
    del run.metrics[-1]


def too_many(run: Run) -> None:
    run.metrics.append({**run.metrics[-1], "step": STEPS + 1})


@pytest.mark.parametrize(
    ("spoil", "check", "words"),
    [
        (missing, "steps", "step 5 is missing"),
        (missing, "order", "step 6 takes samples from 40 on, and 32 comes next"),
        (missing_at_a_change, "steps", "steps 6–7 are missing"),
        (missing_at_a_change, "restores", "generation 2 went on from version 7, and before it"),
        (doubled, "steps", "step 5 is counted 2 times"),
        (doubled, "order", "step 5 takes samples from 32 on, and 40 comes next"),
        (before_the_first, "steps", "step 0 is none: the first is step 1"),
        (out_of_order, "steps", "step 5 comes after step 6"),
        (other_rate, "learning rate", "step 8 has learning rate"),
        (other_tokens, "batch", "step 8 counts 64 tokens, not 128"),
        (one_generation_again, "generations", "generation 2 begins after generation 3"),
        (a_step_of_no_generation, "generations", "step 12 is of generation 9, which never began"),
        (a_step_of_an_older_generation, "generations", "step 12 is of generation 2, the one"),
        (more_ranks_than_there_were, "generations", "step 12 has 4 ranks, generation 3 has 2"),
        (two_versions_at_once, "restores", "generation 3 began from several versions: 8"),
        (a_version_from_nowhere, "restores", "generation 3 went on from version 11, and before"),
        (steps_lost_and_not_counted, "restores", "0 steps were lost; the restores say 2"),
        (steps_said_to_be_lost_and_not_lost, "restores", "5 steps were lost; the restores say 2"),
        (an_early_end, "steps", "the run says it completed, at step 11 of 12"),
        (too_many, "steps", "step 13 is past train.steps (12)"),
    ],
)
def test_what_is_spoilt_is_found(
    run: Run, spoil: Callable[[Run], None], check: str, words: str
) -> None:
    spoil(run)
    found = run.audit()
    assert not found.sound
    assert words in failed(found)[check]


def test_a_line_that_was_cut_short_is_named(run: Run) -> None:
    root = run.write()
    lines = (root / "metrics.jsonl").read_text().splitlines()
    lines[3] = lines[3][:20]
    (root / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert failed(audit(read_record(root)))["steps"] == "line 4 of metrics.jsonl can't be read"


def test_the_last_step_may_be_told_of_by_the_next_generation(run: Run) -> None:
    """The node that would have written step 9 was lost once all had agreed on it."""
    run.metrics[8] |= {"generation": 3, "world_size": 2, "step_seconds": 0.0}
    assert run.audit().sound
    run.metrics[6] |= {"step_seconds": 0.0}
    assert "2 steps were lost; the restores say 3" in failed(run.audit())["restores"]
    run.summary["lost_steps"] = 3
    assert run.audit().sound, "step 7 was told of again, and then done again from version 4"


def test_a_run_that_went_back_because_of_a_steps_numbers_has_lost_those_steps(run: Run) -> None:
    event = {"event": "state.rolled_back", "generation": 3, "step": 11, "version": 8}
    run.events.append(event)
    run.summary["lost_steps"] = 5
    found = run.audit()
    assert failed(found) == {}
    (text,) = [check.text for check in found.checks if check.name == "restores"]
    assert "step 11 took the run back to version 8" in text


def test_a_run_that_goes_on_is_audited_as_far_as_it_is(run: Run) -> None:
    run.metrics = run.metrics[:8]
    run.events = run.events[:-3]
    root = run.write()
    (root / "summary.json").unlink()
    assert audit(read_record(root)).sound


def test_without_the_data_the_rest_is_still_audited(run: Run) -> None:
    run.job["data"] = {"seq_len": 16, "path": "nowhere/*.txt"}
    found = run.audit()
    assert found.sound
    skipped = [check.name for check in found.checks if check.status == "skipped"]
    assert skipped == ["order", "epochs"]


def test_samples_that_overlap_and_items_used_twice_are_found() -> None:
    class Overlapping(Batches):
        def indices(self, step: int, piece: int) -> range:
            first = step * 4 + piece
            return range(first, first + 2)

    class Repeating(Samples):
        def item(self, index: int) -> int:
            return index // 2

    samples = Repeating([[0]] * 10, 0, seed=0, shuffle=False)
    overlapping = Overlapping(samples, pieces=2, samples_per_piece=2)
    assert list(order_problems(overlapping, [1], 2)) == [
        "piece 1 of step 1 takes samples from 1 on"
    ]
    assert next(iter(epoch_problems(samples, 10))) == "item 0 is used twice in epoch 0"
    sound = Samples([[0]] * 10, 0, seed=3, shuffle=True)
    assert list(epoch_problems(sound, 35)) == []


def test_the_command_prints_and_its_exit_code_is_the_verdict(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = run.write()
    assert main(["audit", str(root)]) == 0
    assert capsys.readouterr().out.endswith("the record is sound\n")
    doubled(run)
    run.write()
    assert main(["audit", str(root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["sound"] is False
    assert told["checks"][0]["problems"] == ["step 5 is counted 2 times"]
    assert main(["audit", str(root)]) == 1
    assert "failed  steps          step 5 is counted 2 times" in capsys.readouterr().out


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"holds no job\.yaml"):
        read_record(tmp_path)


def save(run: Run, event: str, version: int) -> None:
    told = {"event": f"checkpoint.{event}", "generation": 3, "version": version, "error": "full"}
    run.events.append(told)


def test_a_run_whose_last_save_failed_is_not_sound(run: Run) -> None:
    save(run, "commit", 6)
    save(run, "failed", 9)
    found = run.audit()
    assert not found.sound
    told = "version 9 is not saved (the newest checkpoint is of version 6): full"
    assert failed(found) == {"saves": told}
    save(run, "commit", 12)
    assert run.audit().sound, "a later one has made up for it"


def time_of(run: Run) -> tuple[str, str]:
    (check,) = [check for check in run.audit().checks if check.name == "time"]
    return check.status, check.text


def test_the_time_is_told_in_its_parts(run: Run) -> None:
    assert time_of(run) == ("ok", "3.0 s up: 1.0 s good, 0.5 s stood still, 1.5 s other")


def test_parts_that_are_no_whole_are_found(run: Run) -> None:
    run.summary["other_seconds"] = 0.3
    assert time_of(run) == ("failed", "the parts make up 1.8 s of 3.0 s")


def test_time_in_which_a_step_stood_still_is_not_good(run: Run) -> None:
    run.metrics[3] |= {"step_seconds": 1.0, "stood_still": 0.9}
    run.summary |= {"good_seconds": 2.1, "other_seconds": 0.4}
    status, text = time_of(run)
    assert (status, text) == ("failed", "2.1 s are said to be good, the steps have 1.2 s")


def test_a_record_of_old_is_told_where_it_stood_still(run: Run) -> None:
    """A version that knew of no standing still has counted it as good."""
    for part in ("good_seconds", "stood_still_seconds", "other_seconds"):
        del run.summary[part]
    run.summary["wall_seconds"] = 50.0
    for line in run.metrics:
        line["generation"] = 1
    run.metrics[6]["step_seconds"] = 40.1
    status, text = time_of(run)
    assert status == "ok"
    assert "1.2 s good, 40.0 s stood still, 8.8 s other" in text
    assert "step 7 by 40.0 s (40.1 s, its neighbours 0.1 s)" in text
    del run.summary["wall_seconds"]
    assert time_of(run)[0] == "skipped"
