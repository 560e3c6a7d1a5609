"""Rank 1 raises under @record; the others wait for it in vain."""

import os
import time

from torch.distributed.elastic.multiprocessing.errors import record


@record
def main() -> None:
    if os.environ["RANK"] == "1":
        raise ValueError("the second rank has had enough")
    time.sleep(600)


if __name__ == "__main__":
    main()
