"""Compile every .proto of this folder into flat modules of `rendezvous.wire`.

    python protos/generate.py [ROOT]

`protos/etcd/etcd.proto` becomes `rendezvous/wire/etcd_pb2.py`, its types `etcd_pb2.pyi` and, where
it defines services, `etcd_pb2_grpc.py`, all below ROOT (this repository when none is given).
A file is known to protoc and imported by other .proto files by its virtual path
`rendezvous/wire/<name>.proto`, so that the generated imports need no rewriting.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = "rendezvous/wire"


def sources() -> list[Path]:
    """Every .proto, in a fixed order; two of one name would overwrite each other's module."""
    found = sorted((REPOSITORY / "protos").rglob("*.proto"))
    names = [path.name for path in found]
    if len(set(names)) != len(names):
        raise SystemExit(f"two .proto files share a name: {names}")
    return found


def generate(root: Path, protos: Sequence[Path]) -> None:
    """Write the modules of `protos` below `root/rendezvous/wire`."""
    (root / PACKAGE).mkdir(parents=True, exist_ok=True)
    well_known = resources.files("grpc_tools") / "_proto"
    virtual = [f"{PACKAGE}/{path.name}" for path in protos]
    mapping = [f"-I{name}={path}" for name, path in zip(virtual, protos, strict=True)]
    for name, path in zip(virtual, protos, strict=True):
        plugins = [f"--python_out={root}", f"--pyi_out={root}"]
        if "\nservice " in path.read_text():
            plugins.append(f"--grpc_python_out={root}")
        if protoc.main(["protoc", *mapping, f"-I{well_known}", *plugins, name]) != 0:
            raise SystemExit(f"{path} does not compile")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY, sources())
