"""`remesh completion SHELL`: what has a shell complete commands, their flags and the names of runs.

The script is made from the parsers and holds all words, so that nothing of ours is started when
somebody presses Tab. Where no word fits, the shell goes on with files.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence

from trainer.command import ON_A_CLUSTER, SUBCOMMANDS
from trainer.command.parser import Parser

SHELLS = ("bash", "zsh", "fish")
NAMING_RUNS = ("resume", "status", "logs", "scale", "drain", "delete", "audit", "plan")
"""Whose word may be the id of a run below runs/."""

CANDIDATES = """\
# Words that may follow: $1 are the commands so far, $2 what has been typed of the next word.
_remesh_words() {{
  case "$2" in
    -*) case "$1" in
{flags}
    esac ;;
    *) case "$1" in
{words}
    esac ;;
  esac
}}
"""
BASH = """\
_remesh() {
  local typed="${COMP_WORDS[COMP_CWORD]}" so_far=""
  [ "$COMP_CWORD" -gt 1 ] && so_far="${COMP_WORDS[1]}"
  case "$so_far" in
    @NESTED@) [ "$COMP_CWORD" -gt 2 ] && so_far="$so_far ${COMP_WORDS[2]}" ;;
  esac
  COMPREPLY=($(compgen -W "$(_remesh_words "$so_far" "$typed")" -- "$typed"))
}
complete -o default -F _remesh remesh
"""
ZSH = """\
_remesh() {
  local so_far=""
  (( CURRENT > 2 )) && so_far="${words[2]}"
  case "$so_far" in
    @NESTED@) (( CURRENT > 3 )) && so_far="$so_far ${words[3]}" ;;
  esac
  local -a found
  found=("${(@f)$(_remesh_words "$so_far" "$PREFIX")}")
  compadd -- ${found:#}
  _files
}
compdef _remesh remesh
"""
FISH = """\
function __remesh_so_far
    set -l typed (commandline -opc)
    echo (string join ' ' -- $typed[2..3])
end
function __remesh_runs
    for run in runs/*/job.yaml
        basename (dirname $run)
    end
end
"""


def parser() -> argparse.ArgumentParser:
    """Takes the name of a shell."""
    made = Parser(
        prog="remesh completion",
        example='eval "$(remesh completion bash)"',
        description="Print a script for your shell. In ~/.bashrc or, behind compinit, ~/.zshrc: "
        'eval "$(remesh completion bash)" (or zsh); in ~/.config/fish/config.fish: '
        "remesh completion fish | source",
    )
    made.add_argument("shell", choices=SHELLS, help="which one")
    return made


def main(argv: Sequence[str]) -> int:
    """Prints the script."""
    shell = parser().parse_args(argv).shell
    print(script(shell), end="")
    return 0


def script(shell: str) -> str:
    """For one of SHELLS."""
    flags, nested = _declared()
    if shell == "fish":
        return _fish(flags, nested)
    body = BASH if shell == "bash" else ZSH
    return _candidates(flags, nested) + body.replace("@NESTED@", "|".join(nested))


def _declared() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The flags of each command and of each command of a command; the names of the latter."""
    from trainer.command.parsers import flags_of, parsers_of, subcommands_of

    flags: dict[str, list[str]] = {"": ["--help", "--version"]}
    nested: dict[str, list[str]] = {}
    for name in SUBCOMMANDS | ON_A_CLUSTER:
        found = parsers_of(name)
        flags[name] = list(dict.fromkeys(flag for one in found for flag in flags_of(one)))
        if name in ON_A_CLUSTER or name == "status":
            flags[name].append("--cluster")
        below = subcommands_of(found[0])
        if below:
            nested[name] = list(below)
            flags |= {f"{name} {word}": flags_of(one) for word, one in below.items()}
    return flags, nested


def _candidates(flags: Mapping[str, Sequence[str]], nested: Mapping[str, Sequence[str]]) -> str:
    """A function of bash and zsh that prints the words that may follow, a line each."""
    ids = "(cd runs 2>/dev/null && ls -1)"
    words = {"": [*SUBCOMMANDS, *ON_A_CLUSTER], **nested, "completion": SHELLS}
    typed = [f"      {'|'.join(NAMING_RUNS)}) {ids} ;;"]
    return CANDIDATES.format(
        flags="\n".join(_branch(place, found) for place, found in flags.items()),
        words="\n".join([*(_branch(place, found) for place, found in words.items()), *typed]),
    )


def _branch(place: str, found: Sequence[str]) -> str:
    return f"      {shlex.quote(place)}) printf '%s\\n' {' '.join(found)} ;;"


def _fish(flags: Mapping[str, Sequence[str]], nested: Mapping[str, Sequence[str]]) -> str:
    lines = [
        f"complete -c remesh -f -n __fish_use_subcommand -a {name} -d {_quoted(text)}"
        for name, text in (SUBCOMMANDS | ON_A_CLUSTER).items()
    ]
    for place, found in flags.items():
        begins = f"string match -qr -- {_quoted(f'^{place}( |$)')} (__remesh_so_far)"
        test = begins if place else "__fish_use_subcommand"
        lines += [
            f"complete -c remesh -n {_quoted(test)} "
            + (f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}")
            for flag in found
        ]
    for name, below in {**nested, "completion": SHELLS}.items():
        test = f"string match -q -- {name} (__remesh_so_far)"
        lines.append(f"complete -c remesh -f -n {_quoted(test)} -a {_quoted(' '.join(below))}")
    seen = f"__fish_seen_subcommand_from {' '.join(NAMING_RUNS)}"
    lines.append(f"complete -c remesh -n {_quoted(seen)} -a '(__remesh_runs)' -d run")
    return FISH + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
