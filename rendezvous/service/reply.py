"""A status as people and as programs read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict

from rendezvous.wire import rendezvous_pb2 as wire


def as_dict(status: wire.StatusReply) -> dict[str, Any]:
    """JSON-able, with every field; 64-bit numbers as numbers."""
    plain: dict[str, Any] = MessageToDict(
        status, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for job in plain["jobs"]:
        job["generation"] = int(job["generation"])
        for node in job["nodes"]:
            node["incarnation"] = int(node["incarnation"])
    return plain


def as_json(status: wire.StatusReply) -> str:
    return json.dumps(as_dict(status), indent=2) + "\n"


def as_text(status: wire.StatusReply) -> str:
    lines = [_leader(status)]
    if status.store_trouble:
        lines.append(f"store: {status.store_trouble}")
    if not status.jobs and status.leader:
        lines.append("no jobs")
    for job in status.jobs:
        lines += ["", *_job(job)]
    return "\n".join(lines) + "\n"


def _leader(status: wire.StatusReply) -> str:
    if not status.leader:
        return f"{status.service} answers; no replica leads at the moment"
    if status.leader != status.service:
        return f"{status.leader} leads and does not answer; asked {status.service}"
    return f"{status.leader} leads, for {duration(status.leading_for)}"


def _job(job: wire.JobStatus) -> list[str]:
    reason = f": {job.reason}" if job.reason else ""
    lines = [f"{job.run_id}  {job.phase}{reason}"]
    if job.generation:
        lines.append(
            f"  generation {job.generation}, {duration(job.generation_age)} old, "
            f"after {job.restarts} restarts; began because: {job.generation_reason}"
        )
    header = ("NODE", "STATE", "RANK", "SLOTS", "HOST", "HERE FOR", "HEARD", "")
    rows = [
        (
            node.node,
            node.state,
            str(node.group_rank) if node.group_rank >= 0 else "-",
            str(node.slots),
            node.host,
            duration(node.attending_for) if node.attending_for else "-",
            f"{duration(node.heard_ago)} ago" if node.heard_ago >= 0 else "-",
            " ".join(f"{key}={value}" for key, value in sorted(node.status.items())),
        )
        for node in sorted(job.nodes, key=lambda n: (n.group_rank < 0, n.group_rank, n.node))
    ]
    return [*lines, *_table([header, *rows])] if rows else lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def duration(seconds: float) -> str:
    """As people say it: 0.3s, 42s, 5m10s, 3h05m, 2d04h."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, small, length in (("d", "h", 86400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= length:
            part = {"h": 3600, "m": 60, "s": 1}[small]
            return f"{whole // length}{unit}{whole % length // part:02d}{small}"
    return f"{whole}s"
