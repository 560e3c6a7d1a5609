"""Fields and types of the manifests, for the newest Kubernetes versions that are known offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from trainer.errors import JobError

KINDS_WITHOUT_SCHEMA = frozenset({"JobSet"})


def newest_versions(count: int = 3) -> list[str]:
    """The newest minor versions, newest first, such as `1.37`.

    Raises:
        JobError: the package with the schemas is not installed.
    """
    versions = _package().utils.all_versions()
    found = {tuple(int(part) for part in version.split(".")[:2]) for version in versions}
    return [f"{major}.{minor}" for major, minor in sorted(found, reverse=True)[:count]]


def problems(manifests: Iterable[Mapping[str, Any]], versions: Iterable[str]) -> list[str]:
    """Unknown fields and wrong types, one line each; kinds without a schema are passed over.

    Raises:
        JobError: the package with the schemas is not installed.
    """
    package = _package()
    found = []
    for manifest in manifests:
        if manifest.get("kind") in KINDS_WITHOUT_SCHEMA:
            continue
        for version in versions:
            try:
                package.validate(manifest, version, strict=True)
            except package.ValidationError as error:
                where = ".".join(str(part) for part in error.path)
                name = f"{manifest.get('kind')}/{manifest.get('metadata', {}).get('name')}"
                text = f"{name}: {where or 'the object'}: {error.message} (Kubernetes {version})"
                found.append(text)
            except package.SchemaNotFoundError:
                found.append(f"{manifest.get('kind')}: unknown to Kubernetes {version}")
    return found


def _package() -> Any:
    try:
        import kubernetes_validate
    except ImportError:
        raise JobError(
            "the schemas of Kubernetes are not installed; pip install 'remesh[kubernetes]'"
        ) from None
    return kubernetes_validate
