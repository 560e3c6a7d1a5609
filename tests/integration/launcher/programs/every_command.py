"""Calls `remesh` with each line of arguments, one after the other, in this one process.

Before each it writes `=== line`, and behind it `=== exit code`, or what came out of it.
"""

from __future__ import annotations

import json
import os
import sys

from trainer.command import main

for words in json.loads(sys.argv[1]):
    # As Python reads them from a shell's line where the locale has no such letters.
    line = [os.fsdecode(word.encode()) for word in words]
    print("===", ascii(line), flush=True)
    try:
        told = str(main(line))
    except SystemExit as end:
        told = str(end.code)
    except BaseException as error:  # noqa: BLE001 - that there is any is what is looked for
        told = ascii(error)
    print("===", told, flush=True)
