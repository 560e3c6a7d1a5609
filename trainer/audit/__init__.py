"""Whether a run's own record proves that each sample of each counted step was used exactly once."""

from trainer.audit.audit import Audit, audit
from trainer.audit.checks import Check
from trainer.audit.record import RunRecord, read_record

__all__ = ["Audit", "Check", "RunRecord", "audit", "read_record"]
