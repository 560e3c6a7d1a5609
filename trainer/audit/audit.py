"""All checks over one record, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainer.audit.checks import (
    Check,
    check_generations,
    check_learning_rate,
    check_restores,
    check_saves,
    check_steps,
    check_tokens,
)
from trainer.audit.record import RunRecord
from trainer.audit.samples import check_epochs, check_order
from trainer.audit.time_spent import check_time


@dataclass(frozen=True, slots=True)
class Audit:
    """What was asked, and what was found."""

    record: RunRecord
    checks: tuple[Check, ...]

    @property
    def sound(self) -> bool:
        return all(check.status != "failed" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "run_directory": str(self.record.root),
            "run_id": self.record.job.run.id,
            "sound": self.sound,
            "steps": self.record.last_step,
            "checks": [
                {
                    "name": check.name,
                    "status": check.status,
                    "text": check.text,
                    "problems": list(check.problems),
                }
                for check in self.checks
            ],
        }


def audit(record: RunRecord) -> Audit:
    """Raises JobError when the job's batch can't be told from its file."""
    checks = [check_steps(record)]
    if record.job.trains:
        pieces = record.job.pieces(_slots(record))
        checks += [check_tokens(record, pieces), check_learning_rate(record)]
    else:
        why = "the steps are of a program of your own"
        checks += [
            Check(name=name, status="skipped", text=why) for name in ("batch", "learning rate")
        ]
    checks += [check_generations(record), check_restores(record), check_saves(record)]
    checks.append(check_time(record))
    if record.job.trains:
        checks += [check_order(record, pieces), check_epochs(record, pieces)]
    return Audit(record, tuple(checks))


def _slots(record: RunRecord) -> int | None:
    """Ranks of a node, where the job file leaves them to the machine: the first generation's."""
    begun = record.begun()
    if not begun or not begun[0].get("nodes"):
        return None
    return max(1, int(begun[0].get("world_size") or 0) // len(begun[0]["nodes"]))
