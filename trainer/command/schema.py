"""`remesh schema`: the JSON Schema of the job file, for editors."""

from __future__ import annotations

import json
from collections.abc import Sequence

from trainer.command.parser import Parser


def parser() -> Parser:
    """Takes what `main` needs."""
    made = Parser(
        prog="remesh schema",
        example="remesh schema > job.schema.json",
        description="Print the JSON Schema of the job file, for editors.",
    )
    made.add_argument("--markdown", action="store_true", help="the page for docs/ instead")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints the schema, or the documentation page made from it."""
    parsed = parser().parse_args(argv)
    from trainer.job import json_schema, render_docs

    print(render_docs() if parsed.markdown else json.dumps(json_schema(), indent=2))
    return 0
