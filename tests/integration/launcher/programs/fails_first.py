"""Joins its peers over the store; in the first attempt rank 1 then ends with code 7."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
dist.init_process_group("gloo")
total = torch.ones(1)
dist.all_reduce(total)
out = Path(sys.argv[1]) / f"attempt{attempt}-rank{os.environ['RANK']}.txt"
out.write_text(f"{int(total)} {os.environ['MASTER_PORT']}")
if attempt == "0" and os.environ["RANK"] == "1":
    os._exit(7)
dist.all_reduce(total)
dist.destroy_process_group()
