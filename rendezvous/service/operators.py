"""What operators ask: the state of jobs; that they drain, scale or stop; that they be forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from rendezvous.errors import MessageError
from rendezvous.security import TOKEN_HEADER
from rendezvous.service import checks
from rendezvous.service.actions import Action
from rendezvous.service.job import Job
from rendezvous.service.service import Service
from rendezvous.wire import rendezvous_pb2 as wire

Context = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[[bytes, Context], Awaitable[bytes]]
Decide = Callable[[float], Sequence[Action]]
_Request = TypeVar("_Request", wire.DrainRequest, wire.ScaleRequest, wire.StopRequest)


def operator_handlers(service: Service) -> Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]:
    """The unary methods by name."""

    async def status(data: bytes, context: Context) -> bytes:
        token = token_of(context)
        run_id = ""
        if service.knows(token):
            try:
                run_id = wire.StatusRequest.FromString(data).run_id
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a StatusRequest")
        return service.status(run_id, token).SerializeToString()

    def operation(kind: type[_Request], decide: Callable[[_Request, Job], Decide]) -> Handler:
        async def operate(data: bytes, context: Context) -> bytes:
            if not service.knows(token_of(context)):
                reply = wire.AdminReply(reason="the token opens no job here")
                return reply.SerializeToString()
            try:
                request = kind.FromString(data)
                checks.run_id(request.run_id)
            except (DecodeError, MessageError) as error:
                return wire.AdminReply(reason=str(error)).SerializeToString()
            reply = await service.operate(
                request.run_id, token_of(context), lambda job: decide(request, job)
            )
            return reply.SerializeToString()

        return operate

    async def forget(data: bytes, context: Context) -> bytes:
        if not service.knows(token_of(context)):
            return wire.ForgetReply(reason="the token opens no job here").SerializeToString()
        try:
            request = wire.ForgetRequest.FromString(data)
            for run_id in request.run_ids:
                checks.run_id(run_id)
        except (DecodeError, MessageError) as error:
            return wire.ForgetReply(reason=str(error)).SerializeToString()
        return (await service.forget(request, token_of(context))).SerializeToString()

    return {
        "Forget": grpc.unary_unary_rpc_method_handler(forget),
        "Status": grpc.unary_unary_rpc_method_handler(status),
        "Drain": grpc.unary_unary_rpc_method_handler(operation(wire.DrainRequest, _drain)),
        "Scale": grpc.unary_unary_rpc_method_handler(operation(wire.ScaleRequest, _scale)),
        "Stop": grpc.unary_unary_rpc_method_handler(operation(wire.StopRequest, _stop)),
    }


def token_of(context: Context) -> str:
    """The authorization header; empty when there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == TOKEN_HEADER and isinstance(value, str):
            return value
    return ""


def _drain(request: wire.DrainRequest, job: Job) -> Decide:
    checks.seconds("grace", request.grace)
    checks.reason(request.reason)
    if not job.knows(request.node):
        raise MessageError(wire.CODE_INVALID, f"node {request.node} does not attend the job")
    reason = request.reason or "an operator asked for it"
    return lambda now: job.drain(request.node, request.grace, reason, now)


def _scale(request: wire.ScaleRequest, job: Job) -> Decide:
    spec = job.spec()
    if spec is None or not spec.min_nodes <= request.nodes <= spec.max_nodes:
        bounds = f"{spec.min_nodes} to {spec.max_nodes}" if spec else "unknown"
        raise MessageError(
            wire.CODE_INVALID, f"{request.nodes} nodes are out of the job's bounds ({bounds})"
        )
    return lambda now: job.scale(request.nodes, now)


def _stop(request: wire.StopRequest, job: Job) -> Decide:
    checks.reason(request.reason)
    return lambda now: job.stop(request.reason or "an operator asked for it", now)
