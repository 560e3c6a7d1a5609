"""Looking for notice that the machine is about to go: a file, or a command that exits 0."""

from __future__ import annotations

import asyncio

from trainer.agent.launch import Probe


async def notice(probe: Probe) -> str:
    """Returns, with the reason, when notice has been given; looks until then."""
    while True:
        if probe.file is not None and probe.file.exists():
            return f"{probe.file} has appeared"
        if probe.command and await _succeeds(probe):
            return f"{probe.command[0]} says that this machine is about to go"
        await asyncio.sleep(probe.every)


async def _succeeds(probe: Probe) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            *probe.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(probe.patience):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
