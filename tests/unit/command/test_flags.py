"""What a person types, and what is made of it."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from rendezvous.membership import JobSpec
from rendezvous.timeouts import Timeouts
from trainer.agent import Loop, Script, Stream
from trainer.command import main, options, run
from trainer.command.flags import notices
from trainer.command.job_launch import job_launch, loop_launch
from trainer.command.same_job import differences
from trainer.command.script_launch import script_launch
from trainer.command.slots import processors, worker_count
from trainer.errors import JobError
from trainer.job import from_mapping
from trainer.job.faults import Kind


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return "train.py"


def parse(*argv: str) -> argparse.Namespace:
    return run.parse(argv)


def test_what_follows_a_script_is_the_scripts() -> None:
    parsed = parse("--nproc-per-node", "2", "train.py", "--nnodes", "7", "x.yaml", "-m")
    assert not parsed.is_job
    assert parsed.arguments == ["--nnodes", "7", "x.yaml", "-m"]
    assert parsed.nnodes is None
    assert not parsed.module


def test_what_follows_a_job_file_is_ours() -> None:
    parsed = parse("--max-restarts", "4", "job.yaml", "--set", "a.b=1", "--nproc_per_node=8")
    assert parsed.is_job
    assert (parsed.max_restarts, parsed.set, parsed.nproc_per_node) == (4, ["a.b=1"], "8")
    both = parse("--set", "a=1", "job.yml", "--set", "b=2")
    assert both.set == ["a=1", "b=2"]


def test_a_yaml_file_can_be_a_program_or_a_module() -> None:
    assert not parse("--no-python", "job.yaml").is_job
    assert not parse("-m", "job.yaml").is_job


def test_a_stray_word_after_a_job_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("job.yaml", "train.py")
    assert ended.value.code == 2
    assert "takes flags only" in capsys.readouterr().err


def test_pet_variables_fill_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PET_NPROC_PER_NODE", "3")
    monkeypatch.setenv("PET_MAX_RESTARTS", "2")
    monkeypatch.setenv("PET_MODULE", "1")
    monkeypatch.setenv("PET_NO_PYTHON", "0")
    parsed = parse("--max-restarts", "5", "pkg.train")
    assert (parsed.nproc_per_node, parsed.max_restarts) == ("3", 5)
    assert parsed.module
    assert not parsed.no_python
    monkeypatch.setenv("PET_MAX_RESTARTS", "many")
    with pytest.raises(SystemExit) as ended:
        parse("train.py")
    assert ended.value.code == 2


def test_flags_without_a_meaning_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    parsed = parse("--monitor-interval", "1", "--numa-binding", "node", "-t", "3", "train.py")
    assert [line.split()[0] for line in notices(parsed, kind="script")] == [
        "--monitor-interval",
        "--numa-binding",
    ]
    assert "--tee has no effect on a job file" in notices(parsed, kind="job")


def test_the_default_launch_is_torchruns(script: str) -> None:
    launch = script_launch(parse(script, "--lr", "1"))
    assert isinstance(launch.workers, Script)
    assert launch.workers.argv == (sys.executable, "-u", script, "--lr", "1")
    assert (launch.slots, launch.membership.max_restarts) == (1, 0)
    assert launch.membership.endpoints == ()
    assert launch.directory.parent == Path.cwd() / "runs"
    assert launch.signals == (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
    )


def test_launches_of_one_script_don_t_share_a_run(script: str) -> None:
    assert script_launch(parse(script)).run_id != script_launch(parse(script)).run_id


def test_standalone_ignores_where_to_meet(script: str) -> None:
    launch = script_launch(
        parse("--standalone", "--rdzv-endpoint", "h:1", "--rdzv-id", "x", script)
    )
    assert launch.membership.endpoints == ()
    assert launch.run_id != "x"


def test_a_service_and_a_name_make_one_run(script: str) -> None:
    launch = script_launch(
        parse("--nnodes", "2:4", "--rdzv-endpoint", "a:1,b", "--rdzv-id", "x", script)
    )
    assert launch.membership.endpoints == ("a:1", "b:29400")
    assert (launch.membership.min_nodes, launch.membership.max_nodes) == (2, 4)
    assert launch.run_id == "x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.py"], "no such file"),
        (["--nnodes", "0", "train.py"], "1 ≤ MIN ≤ MAX"),
        (["--nnodes", "two", "train.py"], "MIN:MAX"),
        (["--nnodes", "2", "train.py"], "remesh rendezvous serve"),
        (["--nproc-per-node", "0", "train.py"], "at least 1"),
        (["--max-restarts", "-1", "train.py"], "negative"),
        (["--rdzv-id", "../up", "train.py"], "--rdzv-id is '../up'; it must be"),
        (["--rdzv-id", "_x", "train.py"], "letter or digit"),
        (["--rdzv-id", "prüfung", "train.py"], "letter or digit"),
        (["--rdzv-id", "x" * 129, "train.py"], "at most 127"),
        (["--node", "../../x", "train.py"], "--node is '../../x'; it must be"),
        (["--node", "", "train.py"], "letter or digit"),
        (["--rdzv-conf", "join_timeout", "train.py"], "KEY=VALUE"),
        (["--rdzv-conf", "join_timeout=soon", "train.py"], "seconds"),
        (["--local-ranks-filter", "a", "train.py"], "local ranks"),
        (["--signals-to-handle", "SIGKILL", "train.py"], "no signal"),
        (["--label", "rack", "train.py"], "KEY=VALUE"),
        (["--run-path", "train.py"], "absolute"),
        (["--master-port", "70000", "train.py"], "1 to 65535"),
        (["--log-dir", "train.py", "train.py"], "no directory"),
    ],
)
def test_each_mistake_has_its_line(script: str, arguments: list[str], words: str) -> None:
    with pytest.raises(JobError, match=words.replace("(", r"\(")) as error:
        script_launch(parse(*arguments))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [["--rdzv-id", "../up"], ["--node", "../../x"], ["--set", "run.id=a/b"], ["--rdzv-id", "a b"]],
)
def test_a_job_is_not_begun_under_a_name_that_no_service_takes(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"model: {{preset: debug}}\nrun: {{directory: {tmp_path}/runs}}\n")
    assert main(["run", *arguments, str(job)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [job]


@pytest.mark.parametrize("name", ["007", "1e5", "null", "yes"])
def test_a_run_is_called_as_it_was_typed(tmp_path: Path, name: str) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("model: {preset: debug}\n")
    assert job_launch(parse("--rdzv-id", name, str(job))).run_id == name


def test_streams() -> None:
    both = Stream.BOTH
    assert options.streams(None, 2, "-r") == {}
    assert options.streams("3", 2, "-r") == {0: both, 1: both}
    assert options.streams("0:3,12:1", 2, "-r") == {0: both, 12: Stream.OUT}
    for wrong in ("4", "0:4", "a"):
        with pytest.raises(JobError):
            options.streams(wrong, 2, "-r")


def test_rendezvous_conf_knows_torchruns_words() -> None:
    conf = options.rendezvous_conf("timeout=10, last_call_timeout=2,tls_ca=/x,read_timeout=5")
    assert conf.times == {"join_timeout": 10.0, "last_call": 2.0}
    assert conf.files == {"tls_ca": Path("/x")}
    assert conf.unknown == ("read_timeout",)


def test_worker_counts() -> None:
    assert worker_count("7") == 7
    assert worker_count("cpu") == processors()
    for wrong in ("0", "1.5", "lots!"):
        with pytest.raises(JobError):
            worker_count(wrong)


def test_what_makes_another_job() -> None:
    one = "name: a\nmodel: {preset: debug}\ntrain: {steps: 5, stop_at: 2}\nparallel: {tensor: 1}\n"
    assert differences(one, one) == []
    changed = one.replace("stop_at: 2", "stop_at: 4").replace("tensor: 1", "tensor: 2")
    assert differences(one, changed) == []
    assert differences(one, one.replace("steps: 5", "steps: 6")) == ["train.steps"]
    assert differences(one, one + "run: {seed: 3, id: x}\n") == ["run.seed"]
    assert differences("a: [", one) == ["(the whole file)"]


def test_a_job_launch_takes_flags_as_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.command.job_launch import job_launch

    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text("model: {preset: debug}\ntrain: {steps: 5}\n")
    launch = job_launch(parse("job.yaml", "--nproc-per-node", "2", "--rdzv-id", "r"))
    assert isinstance(launch.workers, Loop)
    assert (launch.slots, launch.run_id, launch.workers.standby) == (2, "r", 1)
    assert launch.workers.total_steps == 5
    assert launch.directory == tmp_path / "runs" / "r"
    with pytest.raises(JobError, match="rdzv-id"):
        job_launch(parse("job.yaml", "--nproc-per-node", "2", "--rdzv-endpoint", "h:1"))


@pytest.mark.parametrize("nodes", [1, 5000])
def test_a_new_leader_waits_for_as_many_nodes_as_the_job_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    from trainer.command.job_launch import job_launch

    monkeypatch.chdir(tmp_path)
    text = f"model: {{preset: debug}}\ntrain: {{steps: 5}}\nelastic: {{nodes: '1:{nodes}'}}\n"
    (tmp_path / "job.yaml").write_text(text)
    launch = job_launch(
        parse("job.yaml", "--nproc-per-node", "2", "--rdzv-id", "r", "--rdzv-endpoint", "h:1")
    )
    times = {name: value for name, value in launch.membership.options.items()
             if name in ("beat_timeout", "reconnect_grace", "leader_grace")}  # fmt: skip
    Timeouts().check(JobSpec(max_nodes=nodes, **times))


def test_the_command_without_words_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "rendezvous" in capsys.readouterr().out
    assert main(["run", "nothing.py"]) == 2
    assert capsys.readouterr().err.startswith("remesh: nothing.py: no such file")


def test_a_program_that_is_not_executable_is_told_from_one_that_is_not_there(
    tmp_path: Path,
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    for text, words in ((str(program), "chmod +x"), (str(tmp_path / "none"), "no such program")):
        with pytest.raises(JobError, match=re.escape(words)):
            script_launch(parse("--no-python", text))
        job = tmp_path / "job.yaml"
        job.write_text(yaml.safe_dump({"name": "a", "entrypoint": {"command": text}}))
        with pytest.raises(JobError, match=re.escape(words)):
            job_launch(parse(str(job)))


def test_a_script_with_a_loop_of_its_own_is_a_job_made_of_flags(script: str) -> None:
    parsed = parse(
        *("--elastic", "--nproc-per-node", "2", "--set", "checkpoint.every=5"),
        *("--fault", "kind=kill,step=3,rank=1", script, "--lr", "1"),
    )
    launch = loop_launch(parsed)
    assert isinstance(launch.workers, Loop)
    assert launch.workers.own
    assert launch.workers.standby == 1
    assert launch.workers.argv == (sys.executable, "-u", str(Path(script).absolute()), "--lr", "1")
    assert launch.slots == 2
    job = yaml.safe_load(launch.job_text)
    assert job["entrypoint"]["elastic"]
    assert (job["checkpoint"]["every"], job["faults"][0]["kind"]) == (5, "kill")
    assert from_mapping(job).saves


def test_without_a_word_it_has_one_rank_and_a_mistake_is_named(script: str) -> None:
    assert loop_launch(parse("--elastic", script)).slots == 1
    with pytest.raises(JobError, match="entrypoint trains by itself; remove `train`"):
        loop_launch(parse("--elastic", "--set", "train.steps=3", script))
    with pytest.raises(JobError, match=r"entrypoint\.elastic"):
        run.main(["--elastic", "job.yaml"])


def test_flags_for_one_generations_processes_have_no_effect_on_a_loop(script: str) -> None:
    parsed = parse("--elastic", "--role", "x", "-m", script)
    assert notices(parsed, kind="loop") == ["--role has no effect with --elastic"]


def test_the_help_names_every_kind_of_fault() -> None:
    assert tuple(run.FAULT_KINDS.split(", ")) == get_args(Kind)
