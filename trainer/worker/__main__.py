"""`python -m trainer.worker`: one rank's process, started by its agent and by nobody else."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import sys

from trainer.channel import CHANNEL_VARIABLE, REHEARSAL_VARIABLE, WorkerEnd


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
    from trainer.worker.rehearsal import rehearse

    if asked := os.environ.pop(REHEARSAL_VARIABLE, None):
        rehearse(asked)
    # What imports and compiling leave behind is some 300,000 objects that stay for good. Leaving a
    # generation collects garbage while all others wait; it need not walk over these each time.
    gc.freeze()
    channel.send({"type": "hello", "pid": os.getpid()})
    return live(channel, JobTraining.described_in)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything worth keeping is with the agent; taking torch down in order takes seconds.
    os._exit(code)
