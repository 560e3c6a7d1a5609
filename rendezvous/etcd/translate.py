"""Between the store's values and etcd's messages. Pure."""

from __future__ import annotations

from rendezvous.store.values import Change, Changes, Delete, Entry, Guard, Put, Relation, Write
from rendezvous.wire import etcd_pb2 as wire

_RELATIONS: dict[Relation, wire.Compare.CompareResult] = {
    "==": wire.Compare.EQUAL,
    "!=": wire.Compare.NOT_EQUAL,
    "<": wire.Compare.LESS,
    ">": wire.Compare.GREATER,
}


def range_of(prefix: str) -> tuple[bytes, bytes]:
    """The first key with this prefix and the first one after all of them, as etcd wants them."""
    key = prefix.encode()
    if not key:
        return b"\0", b"\0"
    # No UTF-8 text ends in 0xff, so the last byte can always be counted up.
    return key, key[:-1] + bytes([key[-1] + 1])


def key_of(kv: wire.KeyValue) -> str:
    """Ours are UTF-8. Another's may be any bytes: those that are no text are shown as `\\xff`."""
    return kv.key.decode(errors="backslashreplace")


def entry(kv: wire.KeyValue) -> Entry:
    return Entry(
        key=key_of(kv),
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


def compare(guard: Guard) -> wire.Compare:
    message = wire.Compare(key=guard.key.encode(), result=_RELATIONS[guard.relation])
    match guard.field, guard.operand:
        case "create_revision", int(number):
            message.target, message.create_revision = wire.Compare.CREATE, number
        case "mod_revision", int(number):
            message.target, message.mod_revision = wire.Compare.MOD, number
        case "version", int(number):
            message.target, message.version = wire.Compare.VERSION, number
        case "value", bytes(value):
            message.target, message.value = wire.Compare.VALUE, value
        case field, operand:
            raise ValueError(f"a {field} can't be compared with {operand!r}")
    return message


def put(write: Put) -> wire.PutRequest:
    return wire.PutRequest(key=write.key.encode(), value=write.value, lease=write.lease)


def delete(write: Delete) -> wire.DeleteRangeRequest:
    if write.prefix:
        key, end = range_of(write.key)
        return wire.DeleteRangeRequest(key=key, range_end=end)
    return wire.DeleteRangeRequest(key=write.key.encode())


def operation(write: Write) -> wire.RequestOp:
    if isinstance(write, Put):
        return wire.RequestOp(request_put=put(write))
    return wire.RequestOp(request_delete_range=delete(write))


def changes(events: list[wire.Event]) -> Changes:
    """Of one answer of a watch that has events."""
    told = tuple(
        Change(
            key=key_of(event.kv),
            entry=entry(event.kv) if event.type == wire.Event.PUT else None,
            revision=event.kv.mod_revision,
        )
        for event in events
    )
    return Changes(revision=told[-1].revision, changes=told)
