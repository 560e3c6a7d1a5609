"""`python -m trainer.worker`: one rank's process, started by its agent and by nobody else."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys

from trainer.channel import CHANNEL_VARIABLE, WorkerEnd


def main() -> int:
    if CHANNEL_VARIABLE not in os.environ:
        sys.stderr.write("this is a worker's process; start a job with `remesh run`\n")
        return 2
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # The terminal sends these to the whole foreground group; the agent decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    channel = WorkerEnd.from_environment()
    # Imported only now, so that a stack dump works while torch is being imported.
    from trainer.worker.job_training import JobTraining
    from trainer.worker.loop import live

    channel.send({"type": "hello", "pid": os.getpid()})
    return live(channel, JobTraining.described_in)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything worth keeping is with the agent; taking torch down in order takes seconds.
    os._exit(code)
