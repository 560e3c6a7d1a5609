"""What a loop's process starts and ends: prints the children that are there, waits for a line, and
prints how they ended when it wanted them to."""

import multiprocessing
import subprocess
import time

import trainer  # noqa: F401 - signals are the agent's from here on


def rest() -> None:
    time.sleep(600)


def square(number: int) -> int:
    return number * number


fork = multiprocessing.get_context("fork")
for _ in range(20):
    short = fork.Process(target=rest)
    short.start()
    short.terminate()
    short.join()
    assert short.exitcode == -15, short.exitcode
with fork.Pool(2) as pool:
    assert pool.map(square, range(4)) == [0, 1, 4, 9]

forked = fork.Process(target=rest)
forked.start()
program = subprocess.Popen(["sleep", "600"])
print(forked.pid, program.pid, flush=True)
input()
print(forked.is_alive(), program.poll(), flush=True)
forked.terminate()
forked.join()
print(forked.exitcode, flush=True)
