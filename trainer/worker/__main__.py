"""`remesh/start.py trainer.worker`: one rank's process, started by its agent and nobody else."""

from __future__ import annotations

import logging
import os
import stat
import sys

from trainer.channel import CHANNEL_VARIABLE, REHEARSAL_VARIABLE
from trainer.worker.process import leave, open_users_folder, prepare, say_hello
from trainer.worker.signals import keep_from_programs


def main() -> int:
    if CHANNEL_VARIABLE not in os.environ:
        sys.stderr.write("this is a worker's process; start a job with `remesh run`\n")
        return 2
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    # As for the agent: what we write is for no other user to change.
    os.umask(os.umask(0o077) | stat.S_IWOTH)
    keep_from_programs()
    channel = prepare()
    # Imported only now, so that a stack dump works while torch is being imported.
    from trainer.worker.job_training import JobTraining
    from trainer.worker.loop import live
    from trainer.worker.rehearsal import rehearse

    open_users_folder()
    if asked := os.environ.pop(REHEARSAL_VARIABLE, None):
        rehearse(asked)
    say_hello(channel)
    return live(channel, JobTraining.described_in)


if __name__ == "__main__":
    leave(main())
