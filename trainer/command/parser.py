"""The parser of a subcommand: its help ends in an example, its complaints in what was meant."""

from __future__ import annotations

import difflib
from typing import Any, NoReturn

from trainer.outside.numbers import BriefParser

UNRECOGNIZED = "unrecognized arguments: "
REQUIRED = "the following arguments are required"


class Parser(BriefParser):
    """`example` is a whole line that can be typed; `codes` are exit codes and their meaning.

    `cluster`: the subcommand's name, where it is for jobs on a cluster as well; `required`: what
    to say where nothing is given.
    """

    def __init__(
        self,
        *,
        example: str = "",
        codes: str = "",
        cluster: str = "",
        required: str = "",
        **options: Any,
    ) -> None:
        told = [f"example: {example}"] if example else []
        if cluster:
            told.append(f"For a job on Kubernetes: remesh {cluster} --cluster --help.")
        if codes:
            told.append(f"Exit codes: {codes}.")
        # A parser that argparse makes for a subcommand of ours says what it likes.
        options.setdefault("epilog", " ".join(told) or None)
        super().__init__(**options)
        self._required_text = required

    def error(self, message: str) -> NoReturn:
        """Ends with exit code 2; a mistyped flag is answered with the nearest one."""
        if message.startswith(REQUIRED) and self._required_text:
            message = self._required_text
        if message.startswith(UNRECOGNIZED):
            message += self.hint(message.removeprefix(UNRECOGNIZED).split()[0])
        super().error(message)

    def hint(self, word: str) -> str:
        """What was meant by a flag that nobody knows; empty where there is nothing like it."""
        flag = word.partition("=")[0]
        near = difflib.get_close_matches(flag, self.flags(), n=1) if flag.startswith("-") else []
        return f" (did you mean {near[0]}?)" if near else ""

    def flags(self) -> list[str]:
        """Every flag, long and short, in the order in which they were declared."""
        return list(self._option_string_actions)

    def knows(self, word: str) -> bool:
        """Whether `word` is a flag, or the beginning of one."""
        flag = word.partition("=")[0]
        return any(known == flag or known.startswith(flag) for known in self.flags())
