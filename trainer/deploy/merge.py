"""A user's patch over a pod template, merged as `kubectl patch` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}


def merge(base: Any, patch: Any) -> Any:
    """`patch` over `base`: mappings merge, null removes, lists of named things merge by name.

    An item `{name: …, $patch: delete}` removes the named one; every other list is replaced.
    Neither argument is changed.
    """
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key in MERGE_KEYS and _all_named(value, MERGE_KEYS[key]):
            merged[key] = _merge_named(merged.get(key) or [], value, MERGE_KEYS[key])
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def _all_named(items: Any, key: str) -> bool:
    """Whether it is a list of things that have names to merge them by."""
    listed = isinstance(items, Sequence) and not isinstance(items, str)
    return listed and all(isinstance(item, Mapping) and item.get(key) is not None for item in items)


def _merge_named(base: Sequence[Any], patch: Sequence[Any], key: str) -> list[Any]:
    merged = list(base)
    for item in patch:
        at = next((n for n, old in enumerate(merged) if _named_alike(old, item, key)), None)
        if isinstance(item, Mapping) and item.get("$patch") == "delete":
            if at is not None:
                del merged[at]
        elif at is None:
            merged.append(merge({}, item))
        else:
            merged[at] = merge(merged[at], item)
    return merged


def _named_alike(old: Any, new: Any, key: str) -> bool:
    return (
        isinstance(old, Mapping)
        and isinstance(new, Mapping)
        and old.get(key) is not None
        and old.get(key) == new.get(key)
    )
