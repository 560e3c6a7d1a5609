"""Starts a child in its group and one in a session of its own, writes all pids, and waits."""

import os
import subprocess
import sys
import time
from pathlib import Path

command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
near = subprocess.Popen(command)
far = subprocess.Popen(command, start_new_session=True)
out = Path(sys.argv[1]) / f"rank{os.environ['RANK']}.pids"
draft = out.with_suffix(".draft")
draft.write_text(f"{os.getpid()} {near.pid} {far.pid}")
draft.rename(out)
time.sleep(600)
