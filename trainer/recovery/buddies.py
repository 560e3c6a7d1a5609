"""Who keeps whose mirror. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from rendezvous.generation import Member


def buddy(node: str, members: Sequence[Member], topology: str | None) -> Member | None:
    """The node that keeps `node`'s mirrors: the next one, in another rack or zone if there is one.

    `topology` names the label that tells them apart. None where `node` is alone.
    """
    names = [member.node for member in members]
    if node not in names:
        return None
    at = names.index(node)
    others = [*members[at + 1 :], *members[:at]]
    if not others:
        return None
    if topology is not None:
        here = members[at].labels.get(topology)
        elsewhere = [member for member in others if member.labels.get(topology) != here]
        others = elsewhere or others
    return others[0]
