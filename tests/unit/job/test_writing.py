"""From a job back to YAML, to JSON Schema and to the page in docs/."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.job import Job, dump, from_mapping, json_schema, load, render_docs
from trainer.job.reading import known_keys, section_of

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_written_job_reads_as_the_same_job(path, tmp_path):
    job = load(path)
    written = tmp_path / "job.yaml"
    written.write_text(dump(job))
    assert load(written) == job


@settings(max_examples=50, deadline=None)
@given(
    arguments=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
    )
)
def test_texts_come_back_as_they_were(arguments, tmp_path_factory):
    job = from_mapping({"entrypoint": {"script": "x.py", "args": arguments}})
    written = tmp_path_factory.mktemp("job") / "job.yaml"
    written.write_text(dump(job))
    again = load(written)
    assert again.entrypoint is not None
    assert list(again.entrypoint.args) == arguments


def test_texts_that_look_like_something_else_stay_texts(tmp_path):
    arguments = ["1:30", "no", "null", "1e3", "0x1", "~", "", "true", "2026-01-01", "- a", "#"]
    job = from_mapping({"entrypoint": {"command": "echo", "args": arguments}})
    assert yaml.safe_load(dump(job))["entrypoint"]["args"] == arguments
    written = tmp_path / "job.yaml"
    written.write_text(dump(job))
    assert load(written) == job


def test_every_key_is_described_in_one_sentence():
    def fields(model):
        for name, field in model.model_fields.items():
            yield f"{model.__name__}.{name}", field.description
            inner = section_of(field.annotation)
            if inner is not None:
                yield from fields(inner)

    for name, description in fields(Job):
        assert description, name
        assert description.endswith("."), name
        assert len(description) < 200, name


def test_the_schema_closes_every_section_and_knows_every_key():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert all(section["additionalProperties"] is False for section in schema["$defs"].values())
    assert set(schema["properties"]) == {key[0] for key in known_keys()}


def test_the_page_is_current():
    assert (ROOT / "docs" / "job.md").read_text() == render_docs(), (
        "docs/job.md is not what the declarations say; write render_docs() to it"
    )


def test_the_page_names_every_key():
    page = render_docs()
    for key in known_keys():
        assert f"`{key[-1]}`" in page
