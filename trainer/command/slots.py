"""How many workers a node runs. torch is asked only when an accelerator may be there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from rendezvous.bounds import MAX_SLOTS
from trainer.command.quota import quota
from trainer.errors import JobError
from trainer.outside.echo import cut, shown
from trainer.outside.numbers import whole
from trainer.signals import LEAVE_SIGNALS, withheld

ACCELERATOR_DEVICES = ("nvidiactl", "kfd", "dri", "davinci_manager", "habanalabs")
ASK_TORCH = """
import sys, torch
wanted = sys.argv[1]
if wanted == "gpu":
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
elif wanted == "auto":
    there = torch.accelerator.is_available()
    count = torch.accelerator.device_count() if there else 0
else:
    module = getattr(torch, wanted, None)
    there = module is not None and hasattr(module, "device_count") and module.is_available()
    count = module.device_count() if there else 0
print(count)
"""


def processors() -> int:
    """Those this process may use: that it may run on, and has time on."""
    return min(len(os.sched_getaffinity(0)), quota() or sys.maxsize)


def worker_count(wanted: str, *, flag: str = "--nproc-per-node") -> int:
    """`wanted` is a number, auto, cpu, gpu, xpu or another accelerator's name.

    Raises JobError when it is none of them or the accelerator is not there.
    """
    if wanted.isdigit():
        try:
            count = whole(wanted, high=MAX_SLOTS, given=flag)
        except ValueError as error:
            raise JobError(str(error)) from None
        if count < 1:
            raise JobError(f"{flag} is {wanted}; a node needs at least 1 worker")
        return count
    if wanted == "cpu":
        return processors()
    if not wanted.isidentifier():
        raise JobError(f"{flag} is {shown(wanted)}; give a number, auto, cpu or gpu")
    count = _ask_torch(wanted) if _accelerator_possible() else 0
    if count:
        return count
    if wanted == "auto":
        return processors()
    raise JobError(
        f"{flag} is {cut(wanted)}, but torch sees no such device here; give a number or cpu"
    )


def _accelerator_possible() -> bool:
    return any(Path("/dev", name).exists() for name in ACCELERATOR_DEVICES)


def _ask_torch(wanted: str) -> int:
    with contextlib.ExitStack() as ending:
        # A signal to every process of a run is for us to hear: it must not end the answer.
        with withheld(LEAVE_SIGNALS):
            asked = ending.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", ASK_TORCH, wanted],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            ending.callback(asked.kill)
        out, err = asked.communicate()
    if asked.returncode != 0:
        raise JobError(f"torch can't be asked for devices: {err.strip()[-500:]}")
    return int(out.split()[-1])
