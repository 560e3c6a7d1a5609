"""Reading a job file: every complaint at its file, line and key, with the nearest right one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from trainer.errors import JobError
from trainer.job import from_mapping, load


@pytest.fixture
def write(tmp_path):
    def write(text, name="job.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def complaint(path, *overrides, faults=()):
    with pytest.raises(JobError) as caught:
        load(path, overrides, faults=faults)
    return str(caught.value).replace(str(path.parent) + "/", "")


def test_a_small_job_takes_every_default(write):
    job = load(write("model: {preset: debug}\n", "My First_Job.yaml"))
    assert job.name == "my-first-job"
    assert job.trains
    assert job.train.exact
    assert job.run.directory == "runs"
    assert job.elastic.min_nodes == job.elastic.max_nodes == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model:\n  preset: debug\ntrain:\n  stps: 3\n",
            "job.yaml:4: train.stps: unknown key; did you mean train.steps?",
        ),
        (
            "model: {}\ncheckpont:\n  every: 3\n",
            "job.yaml:2: checkpont: unknown key; did you mean checkpoint?",
        ),
        (
            "model: {}\nmirror_every: 3\n",
            "job.yaml:2: mirror_every: unknown key; did you mean elastic.mirror_every?",
        ),
        ("model: {}\nxyzzy: 3\n", "job.yaml:2: xyzzy: unknown key"),
        (
            "model: {}\ntrain:\n  optimizer:\n    betsa: [0, 0]\n",
            "train.optimizer.betsa: unknown key; did you mean train.optimizer.betas?",
        ),
        ("model: {}\ntrain:\n  steps: many\n", "job.yaml:3: train.steps: should be a whole number"),
        ("model: {}\ntrain:\n  steps: 0\n", "job.yaml:3: train.steps: should be greater than 0"),
        (
            "model: {}\ntrain:\n  pieces: few\n",
            "job.yaml:3: train.pieces: should be 'auto', or should be a whole number",
        ),
        (
            "model:\n  preset: 9b\n",
            "job.yaml:2: model.preset: should be 'debug', 'small', '1b', '8b', '70b' or '405b'",
        ),
        (
            "model: {}\nelastic:\n  wait: 5x\n",
            "job.yaml:3: elastic.wait: '5x' is no duration; write 30s, 5m, 1.5h or seconds",
        ),
        (
            "model: {}\nelastic:\n  nodes: 4:1\n",
            "job.yaml:3: elastic.nodes: '4:1' is an empty range; write MIN:MAX with 1 ≤ MIN ≤ MAX",
        ),
        ("model: {}\nfaults:\n  - step: 3\n", "job.yaml:3: faults.0.kind: is required"),
        ("model: {}\nmodel: {}\n", "job.yaml:2: model is given twice; remove one"),
        ("model: [\n", "job.yaml:2: no valid YAML"),
        ("- model\n", "job.yaml:1: a job file is a mapping of sections, such as `model:`"),
        ("", "job.yaml: the job file is empty"),
        ("name: x\n", "job.yaml: nothing to train; give a `model` section"),
        ("model: {}\nname: Not OK\n", "job.yaml:2: name: "),
    ],
)
def test_complaints_name_file_line_and_key(write, text, expected):
    assert expected in complaint(write(text))


def test_every_complaint_is_made_at_once_and_each_on_a_line_of_its_own(write):
    text = complaint(write("model: {}\ntrain:\n  stps: 3\n  clip: -1\n"))
    assert [line.partition(": ")[0] for line in sorted(text.splitlines())] == [
        "job.yaml:3",
        "job.yaml:4",
    ]


def test_a_missing_file_says_so(tmp_path):
    assert "can't read the job file: No such file" in complaint(tmp_path / "none.yaml")


def test_overrides_reach_any_depth_and_make_sections(write):
    job = load(
        write("model: {}\n"),
        ["train.optimizer.lr=1e-3", "elastic.nodes=1:4", "data.path=[a, b]", "train.clip=null"],
    )
    assert job.train.optimizer.lr == 1e-3
    assert (job.elastic.min_nodes, job.elastic.max_nodes) == (1, 4)
    assert job.data.path == ("a", "b")
    assert job.train.clip is None


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.stps=3", "--set train.stps=3: train.stps: unknown key; did you mean train.steps?"),
        ("train.steps=x", "--set train.steps=x: train.steps: should be a whole number"),
        ("train.steps", "--set train.steps: write --set section.key=value"),
        ("train.steps.more=1", "--set train.steps.more=1: train.steps holds no further keys"),
    ],
)
def test_overrides_are_checked_like_the_file(write, override, expected):
    assert expected in complaint(write("model: {}\ntrain: {steps: 5}\n"), override)


def test_faults_from_the_command_line_join_those_of_the_file(write):
    job = load(
        write("model: {}\nfaults:\n  - {kind: stop, step: 1}\n"),
        faults=["step=30,rank=2,kind=agent-kill", "rate=0.01,kind=slow,seconds=200ms"],
    )
    assert [fault.kind for fault in job.faults] == ["stop", "agent-kill", "slow"]
    assert (job.faults[1].step, job.faults[1].rank) == (30, 2)
    assert job.faults[2].seconds == 0.2


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("step=3,kind=explode", "--fault step=3,kind=explode: faults.0.kind: should be 'kill'"),
        ("kill", "'kill' is not key=value; write step=30,rank=2,kind=kill"),
        ("kind=kill", "faults.0: give either a step or a rate"),
    ],
)
def test_faults_from_the_command_line_are_checked(write, fault, expected):
    assert expected in complaint(write("model: {}\n"), faults=[fault])


def test_yaml_scalars_mean_what_they_look_like(write):
    """YAML 1.1 would read 1:4 as 64, 1e-4 as a text and `no` as false."""
    job = load(
        write(
            "entrypoint:\n  script: x.py\n  args: [no, 0x10, 1_000, '7', 1:30]\n"
            "elastic:\n  nodes: 1:4\n"
        )
    )
    assert job.entrypoint is not None
    assert job.entrypoint.args == ("no", "16", "1000", "7", "1:30")
    assert job.elastic.nodes == "1:4"


def test_a_mapping_can_be_read_without_a_file():
    job = from_mapping({"entrypoint": {"module": "pkg.train"}}, ["elastic.nproc_per_node=gpu"])
    assert not job.trains
    assert job.elastic.nproc_per_node == "gpu"


def test_the_mapping_that_was_given_is_left_alone():
    given = {"model": {}, "train": {"steps": 3}}
    from_mapping(given, ["train.steps=4"], faults=["kind=kill,step=1"])
    assert given == {"model": {}, "train": {"steps": 3}}


def test_reading_a_job_imports_no_torch():
    code = "import sys, trainer.job, trainer.mesh; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
