"""What every loop worker does first and last."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

from trainer.channel import WorkerEnd
from trainer.signals import DUMP_SIGNAL
from trainer.worker import signal_stack


def prepare() -> WorkerEnd:
    """Make ready to be asked for stacks, and take up the line to the agent."""
    faulthandler.enable()
    signal_stack.widen()
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    return WorkerEnd.from_environment()


def open_users_folder() -> None:
    """Let modules of the user's own be found in the folder the job runs in, as `python -m` has it.

    Only when ours and what these need are imported: a file there may have any name.
    """
    if not os.environ.get("PYTHONSAFEPATH"):
        sys.path.insert(0, str(Path.cwd()))


def say_hello(channel: WorkerEnd) -> None:
    """Everything is imported: this process could enter a generation at once."""
    # What imports and compiling leave behind is some 300,000 objects that stay for good. Leaving a
    # generation collects garbage while all others wait; it need not walk over these each time.
    gc.freeze()
    channel.send({"type": "hello", "pid": os.getpid()})


def leave(code: int) -> NoReturn:
    """Everything worth keeping is with the agent; taking torch down in order takes seconds."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
