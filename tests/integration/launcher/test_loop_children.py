"""What a loop's process does about signals, and what its children do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.integration.launcher.launching import PROGRAMS, ROOT, wait_for
from trainer.signals import SIGNALS_VARIABLE, withheld

LEAVES = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCONT)


def deaf(pid: int, number: int) -> bool:
    """Whether it waits for the signal rather than ends of it."""
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return bool(int(fields["SigBlk"], 16) >> (number - 1) & 1)


def test_a_loops_children_leave_signals_to_the_agent_and_end_as_their_parent_wants() -> None:
    """
    1. the process is born with the signals blocked, and hears some while Python starts
    2. children that are ended as soon as they are born, and a pool, end
    3. all signals come to the process and to its children: what was forked lives, what is a
       program of its own ends of them
    4. the fork ends when its parent wants it to
    """
    with withheld(LEAVES):
        process = subprocess.Popen(
            [sys.executable, PROGRAMS / "loop_children.py"],
            env={**os.environ, "PYTHONPATH": str(ROOT), SIGNALS_VARIABLE: "15 2 10 18"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        for number in LEAVES:
            process.send_signal(number)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        forked, program = map(int, line.split())
        assert deaf(forked, signal.SIGTERM)
        assert not deaf(process.pid, signal.SIGTERM)
        for number in LEAVES:
            for pid in (process.pid, forked):
                os.kill(pid, number)
        os.kill(program, signal.SIGTERM)
        wait_for(lambda: psutil.Process(program).status() == "zombie", "the program has ended")
        out, err = process.communicate("\n", timeout=60)
        assert out.split() == ["True", "-15", "-15"], err
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.communicate()


def test_what_was_ignored_before_stays_ignored() -> None:
    told = "import os, signal, trainer, subprocess, sys\n" + (
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, 'REMESH_SIGNALS' in os.environ)\n"
        "print(subprocess.run(['grep', 'SigIgn', '/proc/self/status'], capture_output=True,"
        " text=True).stdout.split()[1])"
    )
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with withheld((signal.SIGHUP, signal.SIGTERM)):
            ended = subprocess.run(
                [sys.executable, "-c", told],
                env={**os.environ, "PYTHONPATH": str(ROOT), SIGNALS_VARIABLE: "1 15"},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
    finally:
        signal.signal(signal.SIGHUP, before)
    ignored, marked, mask = ended.stdout.split()
    assert (ignored, marked) == ("True", "False")
    assert int(mask, 16) & 1 << (signal.SIGHUP - 1)
    assert not int(mask, 16) & 1 << (signal.SIGTERM - 1)


def test_many_signals_at_once_harm_nobody() -> None:
    """They nest on the stack that faulthandler gave the main thread, which holds four of them."""
    numbers = "15 2 10 12 18 1 3"
    told = (
        "import faulthandler, os, signal, trainer\n"
        "from trainer.worker import signal_stack\n"
        "faulthandler.enable(); signal_stack.widen()\n"
        f"numbers = [int(word) for word in '{numbers}'.split()]\n"
        "for _ in range(50):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        "    for number in numbers: os.kill(os.getpid(), number)\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)\n"
        "import json, decimal, asyncio\n"
        "print('whole')\n"
    )
    with withheld([int(word) for word in numbers.split()]):
        ended = subprocess.run(
            [sys.executable, "-c", told],
            env={**os.environ, "PYTHONPATH": str(ROOT), SIGNALS_VARIABLE: numbers},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (ended.returncode, ended.stdout) == (0, "whole\n"), ended.stderr
