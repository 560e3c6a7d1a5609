"""Where our processes begin, whatever a user's own files are called.

`trainer` and `rendezvous` are names that users have for files of their own, and Python takes what
comes first on its path. So our packages are imported here, from where this file lies, before
anything else is looked for; whoever asks for them later is given these. A name of the standard
library is left to the standard library, also when PYTHONPATH leads to a file of that name.

Run as a script, `python -P start.py MODULE`, it is `python -m MODULE` for a module of ours, except
that the folder in which it is run is not on the path.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters

    Handlers = Callable[[RendezvousParameters], RendezvousHandler]


def command() -> int:
    """The console script `remesh`. Returns the exit code."""
    put_library_first()
    take("trainer", "rendezvous")
    from trainer.command import main

    return main()


def etcd_v3() -> Handlers:
    """torchrun's plugin for --rdzv-backend=etcd-v3."""
    take("rendezvous")
    from rendezvous import torchrun

    return torchrun.etcd_v3()


def service() -> Handlers:
    """torchrun's plugin for --rdzv-backend=remesh."""
    take("rendezvous")
    from rendezvous import torchrun

    return torchrun.remesh()


def put_library_first() -> None:
    """Look for the standard library before PYTHONPATH, whose folders come first otherwise."""
    home = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib might be a user's still
    zipped = "python{}{}.zip".format(*sys.version_info[:2])

    def is_library(folder: str) -> bool:
        inside = folder == home or folder.startswith(home + os.sep)
        return folder.endswith(os.sep + zipped) or (inside and "-packages" not in folder)

    sys.path.sort(key=lambda folder: not is_library(folder))


def take(*names: str) -> None:
    """Import these packages of ours from beside this one.

    Raises ImportError when another module has come to one of the names already.
    """
    # Not before the path is in order: these import parts of the standard library.
    import importlib.util
    from pathlib import Path

    for name in names:
        place = Path(__file__).resolve().parents[1] / name / "__init__.py"
        there = sys.modules.get(name)
        if there is not None:
            if there.__file__ is None or Path(there.__file__).resolve() != place:
                told = f"{there!r} has the name of a package of Remesh's own; rename that file"
                raise ImportError(told, name=name)
            continue
        spec = importlib.util.spec_from_file_location(
            name, place, submodule_search_locations=[str(place.parent)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)


def main() -> None:
    """Run the module that the first argument names, with the arguments that follow."""
    put_library_first()
    module = sys.argv[1]
    del sys.argv[1]
    take(module.partition(".")[0])
    import runpy

    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
