"""From an agent's report on the wire to the event that membership knows."""

from __future__ import annotations

from rendezvous import membership as m
from rendezvous.wire import rendezvous_pb2 as wire


def event_of(message: wire.AgentMessage, node: str, incarnation: int) -> m.Event | None:
    """The event that a life of a node reports; None where the message reports nothing."""
    match message.WhichOneof("body"):
        case "running":
            running = message.running
            return m.Running(
                node=node,
                incarnation=incarnation,
                generation=running.generation,
                store_endpoint=running.store_endpoint,
            )
        case "listening":
            return m.Listening(
                node=node,
                incarnation=incarnation,
                generation=message.listening.generation,
                store_endpoint=message.listening.store_endpoint,
            )
        case "left":
            left = message.left
            return m.Left(
                node=node,
                incarnation=incarnation,
                generation=left.generation,
                version=left.version,
                store_endpoint=left.store_endpoint,
                cause=left.cause,
                stepped=left.stepped,
            )
        case "worker_failed":
            failed = message.worker_failed
            return m.WorkerFailed(
                node=node,
                incarnation=incarnation,
                generation=failed.generation,
                rank=failed.rank,
                exit_code=failed.exit_code if failed.HasField("exit_code") else None,
                signal=failed.signal if failed.HasField("signal") else None,
                step=failed.step,
                cause=failed.cause,
                store_endpoint=failed.store_endpoint,
                error=failed.error,
                whole=failed.whole,
            )
        case "drain":
            return m.DrainAsked(
                node=node,
                incarnation=incarnation,
                grace=message.drain.grace,
                reason=message.drain.reason,
            )
        case "finished":
            return m.Finished(
                node=node,
                incarnation=incarnation,
                generation=message.finished.generation,
                status=message.finished.status,
                reason=message.finished.reason,
                whole=message.finished.whole,
            )
        case "leave":
            return m.Leave(node=node, incarnation=incarnation, reason=message.leave.reason)
    return None
