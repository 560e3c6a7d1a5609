"""From a job back to YAML, and to the JSON Schema that editors read."""

from __future__ import annotations

from typing import Any

import yaml

from trainer.job.schema import TRAINING_SECTIONS, Job


def resolved(job: Job) -> dict[str, Any]:
    """Every key of the job that means something, as plain values; loads as the same job."""
    left_out = set(TRAINING_SECTIONS) if not job.trains else {"entrypoint"}
    if job.saves:
        left_out.discard("checkpoint")
    plain: dict[str, Any] = job.model_dump(mode="json", exclude=left_out)
    return plain


def dump(job: Job) -> str:
    """The job as YAML, with every default written out."""
    return yaml.dump(resolved(job), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a job file."""
    schema = Job.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Remesh job",
    }


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or 1.2 could take for something else."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = value.replace("/", "").replace("-", "").replace("_", "").isalpha()
    style = None if plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
