"""As much of kustomize as our overlays use, so that they are tested where kubectl is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from trainer.deploy.merge import merge

Manifest = dict[str, Any]


def build(directory: Path) -> list[Manifest]:
    """`kubectl kustomize DIRECTORY`: resources, namespace, images, strategic merge patches."""
    settings = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
    known = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
    assert settings.keys() <= known, settings.keys() - known
    made: list[Manifest] = []
    for resource in settings["resources"]:
        path = directory / resource
        made += build(path) if path.is_dir() else documents(path.read_text(encoding="utf-8"))
    for entry in settings.get("patches", []):
        text = entry.get("patch") or (directory / entry["path"]).read_text(encoding="utf-8")
        for patch in documents(text):
            made = apply(made, patch)
    for one in made:
        if "namespace" in settings and one["kind"] != "Namespace":
            one["metadata"]["namespace"] = settings["namespace"]
        for container in containers(one):
            for image in settings.get("images", []):
                if container["image"] == image["name"]:
                    container["image"] = f"{image['name']}:{image['newTag']}"
    return made


def apply(manifests: list[Manifest], patch: Manifest) -> list[Manifest]:
    """One patch over the one resource that it names."""
    target = [one for one in manifests if identity(one) == identity(patch)]
    assert len(target) == 1, identity(patch)
    if patch.get("$patch") == "delete":
        return [one for one in manifests if one is not target[0]]
    return [merge(one, patch) if one is target[0] else one for one in manifests]


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document is not None]


def identity(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def containers(manifest: Manifest) -> list[Manifest]:
    template = (manifest.get("spec") or {}).get("template") or {}
    found: list[Manifest] = (template.get("spec") or {}).get("containers", [])
    return found
