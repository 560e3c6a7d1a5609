"""The bounds of what a service takes from the wire. A message that breaks one changes nothing."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from rendezvous.bounds import (
    MAX_COUNT,
    MAX_LABEL,
    MAX_LABELS,
    MAX_NODES,
    MAX_NUMBER,
    MAX_SECONDS,
    MAX_SLOTS,
    MAX_TEXT,
)
from rendezvous.errors import MessageError
from rendezvous.outside.names import ENDPOINT, HOST, NODE, RUN_ID, Form, named
from rendezvous.wire import rendezvous_pb2 as wire

MAX_MESSAGE_BYTES = 64 << 10
MAX_ENTRY = 256
RESUME_KEY_BYTES = (16, 64)
_SMALL = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)


def agent_message(data: bytes) -> wire.AgentMessage:
    """Parse and check; raises MessageError."""
    try:
        message = wire.AgentMessage.FromString(data)
    except DecodeError as error:
        raise _invalid("not an AgentMessage") from error
    body = message.WhichOneof("body")
    _numbers(message)
    match body:
        case "join":
            _join(message.join)
        case "running":
            _store_endpoint(message.running.store_endpoint)
        case "listening":
            _store_endpoint(message.listening.store_endpoint)
        case "left":
            _store_endpoint(message.left.store_endpoint)
            _text("cause", message.left.cause)
        case "worker_failed":
            _store_endpoint(message.worker_failed.store_endpoint)
            _text("cause", message.worker_failed.cause)
            _text("error", message.worker_failed.error)
            _at_most("rank", message.worker_failed.rank, MAX_NODES * MAX_SLOTS)
            if message.worker_failed.step < -1:
                raise _invalid("step must be -1 or more")
        case "drain":
            seconds("grace", message.drain.grace)
            _text("reason", message.drain.reason)
        case "finished":
            if message.finished.status not in ("completed", "stopped", "failed"):
                raise _invalid("status must be completed, stopped or failed")
            _text("reason", message.finished.reason)
        case "leave":
            _text("reason", message.leave.reason)
        case "report":
            _mapping("status", message.report.status, MAX_ENTRY)
        case None:
            raise _invalid("no body this service knows")
    if body not in ("join", "beat", "report") and message.sequence == 0:
        raise _invalid(f"a {body} needs a sequence number")
    return message


def run_id(name: str) -> None:
    _name("run_id", name, RUN_ID)


def node(name: str) -> None:
    _name("node", name, NODE)


def seconds(name: str, value: float) -> None:
    if not 0 <= value <= MAX_SECONDS:
        raise _invalid(f"{name} must be 0 to {MAX_SECONDS:g} seconds")


def reason(text: str) -> None:
    _text("reason", text)


def _join(join: wire.Join) -> None:
    if join.protocol != 1:
        raise _invalid(f"this service speaks version 1 of the protocol, not {join.protocol}")
    run_id(join.run_id)
    node(join.node)
    if not 1 <= join.slots <= MAX_SLOTS:
        raise _invalid(f"slots must be 1 to {MAX_SLOTS}")
    _name("host", join.host, HOST)
    _store_endpoint(join.store_endpoint)
    _mapping("labels", join.labels, MAX_LABEL)
    seconds("attended", join.attended)
    if not RESUME_KEY_BYTES[0] <= len(join.resume_key) <= RESUME_KEY_BYTES[1]:
        raise _invalid("resume_key must be 16 to 64 bytes")
    _at_most("spec.max_nodes", join.spec.max_nodes, MAX_NODES)
    for descriptor, value in join.spec.ListFields():
        if isinstance(value, float):
            seconds(f"spec.{descriptor.name}", value)


def _name(what: str, name: str, form: Form) -> None:
    try:
        named(form, name, given=what)
    except ValueError as error:
        raise _invalid(str(error)) from error


def _store_endpoint(endpoint: str) -> None:
    if endpoint:
        _name("store_endpoint", endpoint, ENDPOINT)


def _text(what: str, text: str) -> None:
    if len(text) > MAX_TEXT or not all(c.isprintable() or c in "\n\t" for c in text):
        raise _invalid(f"{what} must be at most {MAX_TEXT} printable characters")


def _mapping(what: str, entries: Mapping[str, str], most: int) -> None:
    if len(entries) > MAX_LABELS:
        raise _invalid(f"{what} must have at most {MAX_LABELS} entries")
    for key, value in entries.items():
        if not key or len(key) > most or len(value) > most or not (key + value).isprintable():
            raise _invalid(f"{what} must hold printable text of at most {most} characters")


def _numbers(message: Message, path: str = "") -> None:
    """No number in it, however deep, is larger than the ones that are made of it may be."""
    for descriptor, value in message.ListFields():
        where = f"{path}{descriptor.name}"
        if isinstance(value, Message):
            _numbers(value, f"{where}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            small = descriptor.cpp_type in _SMALL
            _at_most(where, value, MAX_COUNT if small else MAX_NUMBER)


def _at_most(what: str, value: int, most: int) -> None:
    if value > most:
        raise _invalid(f"{what} must be at most {most}")


def _invalid(detail: str) -> MessageError:
    return MessageError(wire.CODE_INVALID, detail)
