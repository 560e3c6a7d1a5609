from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODE_UNSPECIFIED: _ClassVar[Code]
    CODE_INVALID: _ClassVar[Code]
    CODE_UNAUTHENTICATED: _ClassVar[Code]
    CODE_MISMATCH: _ClassVar[Code]
    CODE_OCCUPIED: _ClassVar[Code]
    CODE_EXHAUSTED: _ClassVar[Code]
    CODE_DECIDED: _ClassVar[Code]
CODE_UNSPECIFIED: Code
CODE_INVALID: Code
CODE_UNAUTHENTICATED: Code
CODE_MISMATCH: Code
CODE_OCCUPIED: Code
CODE_EXHAUSTED: Code
CODE_DECIDED: Code

class AgentMessage(_message.Message):
    __slots__ = ("sequence", "join", "beat", "running", "left", "worker_failed", "drain", "finished", "leave", "report", "listening")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FAILED_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    LISTENING_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    join: Join
    beat: Beat
    running: Running
    left: Left
    worker_failed: WorkerFailed
    drain: DrainNotice
    finished: Finished
    leave: Leave
    report: Report
    listening: Listening
    def __init__(self, sequence: _Optional[int] = ..., join: _Optional[_Union[Join, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., running: _Optional[_Union[Running, _Mapping]] = ..., left: _Optional[_Union[Left, _Mapping]] = ..., worker_failed: _Optional[_Union[WorkerFailed, _Mapping]] = ..., drain: _Optional[_Union[DrainNotice, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., listening: _Optional[_Union[Listening, _Mapping]] = ...) -> None: ...

class Join(_message.Message):
    __slots__ = ("protocol", "run_id", "node", "incarnation", "slots", "host", "labels", "store_endpoint", "spec", "resume_key", "generation", "earlier", "attended")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STORE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    RESUME_KEY_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    ATTENDED_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    run_id: str
    node: str
    incarnation: int
    slots: int
    host: str
    labels: _containers.ScalarMap[str, str]
    store_endpoint: str
    spec: JobSpec
    resume_key: bytes
    generation: int
    earlier: int
    attended: float
    def __init__(self, protocol: _Optional[int] = ..., run_id: _Optional[str] = ..., node: _Optional[str] = ..., incarnation: _Optional[int] = ..., slots: _Optional[int] = ..., host: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., store_endpoint: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., resume_key: _Optional[bytes] = ..., generation: _Optional[int] = ..., earlier: _Optional[int] = ..., attended: _Optional[float] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("min_nodes", "max_nodes", "node_multiple", "max_restarts", "node_failures", "step_failures", "join_timeout", "last_call", "beat_timeout", "reconnect_grace", "leader_grace", "boundary_timeout", "grow_interval", "wait")
    MIN_NODES_FIELD_NUMBER: _ClassVar[int]
    MAX_NODES_FIELD_NUMBER: _ClassVar[int]
    NODE_MULTIPLE_FIELD_NUMBER: _ClassVar[int]
    MAX_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    NODE_FAILURES_FIELD_NUMBER: _ClassVar[int]
    STEP_FAILURES_FIELD_NUMBER: _ClassVar[int]
    JOIN_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    LAST_CALL_FIELD_NUMBER: _ClassVar[int]
    BEAT_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RECONNECT_GRACE_FIELD_NUMBER: _ClassVar[int]
    LEADER_GRACE_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    GROW_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    min_nodes: int
    max_nodes: int
    node_multiple: int
    max_restarts: int
    node_failures: int
    step_failures: int
    join_timeout: float
    last_call: float
    beat_timeout: float
    reconnect_grace: float
    leader_grace: float
    boundary_timeout: float
    grow_interval: float
    wait: float
    def __init__(self, min_nodes: _Optional[int] = ..., max_nodes: _Optional[int] = ..., node_multiple: _Optional[int] = ..., max_restarts: _Optional[int] = ..., node_failures: _Optional[int] = ..., step_failures: _Optional[int] = ..., join_timeout: _Optional[float] = ..., last_call: _Optional[float] = ..., beat_timeout: _Optional[float] = ..., reconnect_grace: _Optional[float] = ..., leader_grace: _Optional[float] = ..., boundary_timeout: _Optional[float] = ..., grow_interval: _Optional[float] = ..., wait: _Optional[float] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Listening(_message.Message):
    __slots__ = ("generation", "store_endpoint")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STORE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    store_endpoint: str
    def __init__(self, generation: _Optional[int] = ..., store_endpoint: _Optional[str] = ...) -> None: ...

class Running(_message.Message):
    __slots__ = ("generation", "store_endpoint")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STORE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    generation: int
    store_endpoint: str
    def __init__(self, generation: _Optional[int] = ..., store_endpoint: _Optional[str] = ...) -> None: ...

class Left(_message.Message):
    __slots__ = ("generation", "version", "store_endpoint", "cause", "stepped")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STEPPED_FIELD_NUMBER: _ClassVar[int]
    generation: int
    version: int
    store_endpoint: str
    cause: str
    stepped: bool
    def __init__(self, generation: _Optional[int] = ..., version: _Optional[int] = ..., store_endpoint: _Optional[str] = ..., cause: _Optional[str] = ..., stepped: _Optional[bool] = ...) -> None: ...

class WorkerFailed(_message.Message):
    __slots__ = ("generation", "rank", "exit_code", "signal", "step", "cause", "store_endpoint", "error", "whole")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    STORE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    rank: int
    exit_code: int
    signal: int
    step: int
    cause: str
    store_endpoint: str
    error: str
    whole: bool
    def __init__(self, generation: _Optional[int] = ..., rank: _Optional[int] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., step: _Optional[int] = ..., cause: _Optional[str] = ..., store_endpoint: _Optional[str] = ..., error: _Optional[str] = ..., whole: _Optional[bool] = ...) -> None: ...

class DrainNotice(_message.Message):
    __slots__ = ("grace", "reason")
    GRACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    grace: float
    reason: str
    def __init__(self, grace: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("generation", "status", "reason", "whole")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    status: str
    reason: str
    whole: bool
    def __init__(self, generation: _Optional[int] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., whole: _Optional[bool] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("status",)
    class StatusEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _containers.ScalarMap[str, str]
    def __init__(self, status: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ServiceMessage(_message.Message):
    __slots__ = ("welcome", "redirect", "refused", "generation_began", "leave_at_boundary", "spare", "drain_asked", "drain_done", "job_ended", "ack", "pulse", "problem")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REDIRECT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_BEGAN_FIELD_NUMBER: _ClassVar[int]
    LEAVE_AT_BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    SPARE_FIELD_NUMBER: _ClassVar[int]
    DRAIN_ASKED_FIELD_NUMBER: _ClassVar[int]
    DRAIN_DONE_FIELD_NUMBER: _ClassVar[int]
    JOB_ENDED_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PULSE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    redirect: Redirect
    refused: Refused
    generation_began: GenerationBegan
    leave_at_boundary: LeaveAtBoundary
    spare: Spare
    drain_asked: DrainAsked
    drain_done: DrainDone
    job_ended: JobEnded
    ack: Ack
    pulse: Pulse
    problem: Problem
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., redirect: _Optional[_Union[Redirect, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., generation_began: _Optional[_Union[GenerationBegan, _Mapping]] = ..., leave_at_boundary: _Optional[_Union[LeaveAtBoundary, _Mapping]] = ..., spare: _Optional[_Union[Spare, _Mapping]] = ..., drain_asked: _Optional[_Union[DrainAsked, _Mapping]] = ..., drain_done: _Optional[_Union[DrainDone, _Mapping]] = ..., job_ended: _Optional[_Union[JobEnded, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., pulse: _Optional[_Union[Pulse, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("service", "pulse_ms")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PULSE_MS_FIELD_NUMBER: _ClassVar[int]
    service: str
    pulse_ms: int
    def __init__(self, service: _Optional[str] = ..., pulse_ms: _Optional[int] = ...) -> None: ...

class Redirect(_message.Message):
    __slots__ = ("leader", "retry_ms", "reason")
    LEADER_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    leader: str
    retry_ms: int
    reason: str
    def __init__(self, leader: _Optional[str] = ..., retry_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("reason", "retryable", "code")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    retryable: bool
    code: Code
    def __init__(self, reason: _Optional[str] = ..., retryable: _Optional[bool] = ..., code: _Optional[_Union[Code, str]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "detail")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: Code
    detail: str
    def __init__(self, code: _Optional[_Union[Code, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class GenerationBegan(_message.Message):
    __slots__ = ("number", "reason", "restarts", "store_endpoint", "roster", "secret")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    STORE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    number: int
    reason: str
    restarts: int
    store_endpoint: str
    roster: bytes
    secret: str
    def __init__(self, number: _Optional[int] = ..., reason: _Optional[str] = ..., restarts: _Optional[int] = ..., store_endpoint: _Optional[str] = ..., roster: _Optional[bytes] = ..., secret: _Optional[str] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[RosterMember]
    def __init__(self, members: _Optional[_Iterable[_Union[RosterMember, _Mapping]]] = ...) -> None: ...

class RosterMember(_message.Message):
    __slots__ = ("node", "incarnation", "slots", "host", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: int
    slots: int
    host: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[int] = ..., slots: _Optional[int] = ..., host: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class LeaveAtBoundary(_message.Message):
    __slots__ = ("generation", "reason", "going")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GOING_FIELD_NUMBER: _ClassVar[int]
    generation: int
    reason: str
    going: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, generation: _Optional[int] = ..., reason: _Optional[str] = ..., going: _Optional[_Iterable[str]] = ...) -> None: ...

class Spare(_message.Message):
    __slots__ = ("reason", "generation")
    REASON_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    reason: str
    generation: int
    def __init__(self, reason: _Optional[str] = ..., generation: _Optional[int] = ...) -> None: ...

class DrainAsked(_message.Message):
    __slots__ = ("grace", "reason")
    GRACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    grace: float
    reason: str
    def __init__(self, grace: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class DrainDone(_message.Message):
    __slots__ = ("reason", "handed_over")
    REASON_FIELD_NUMBER: _ClassVar[int]
    HANDED_OVER_FIELD_NUMBER: _ClassVar[int]
    reason: str
    handed_over: bool
    def __init__(self, reason: _Optional[str] = ..., handed_over: _Optional[bool] = ...) -> None: ...

class JobEnded(_message.Message):
    __slots__ = ("status", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: str
    reason: str
    def __init__(self, status: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class Pulse(_message.Message):
    __slots__ = ("next_ms",)
    NEXT_MS_FIELD_NUMBER: _ClassVar[int]
    next_ms: int
    def __init__(self, next_ms: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("service", "leader", "leading_for", "jobs", "store_trouble")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    LEADING_FOR_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    STORE_TROUBLE_FIELD_NUMBER: _ClassVar[int]
    service: str
    leader: str
    leading_for: float
    jobs: _containers.RepeatedCompositeFieldContainer[JobStatus]
    store_trouble: str
    def __init__(self, service: _Optional[str] = ..., leader: _Optional[str] = ..., leading_for: _Optional[float] = ..., jobs: _Optional[_Iterable[_Union[JobStatus, _Mapping]]] = ..., store_trouble: _Optional[str] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("run_id", "phase", "reason", "generation", "generation_reason", "generation_age", "restarts", "spec", "nodes", "ended_by")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_REASON_FIELD_NUMBER: _ClassVar[int]
    GENERATION_AGE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    ENDED_BY_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    phase: str
    reason: str
    generation: int
    generation_reason: str
    generation_age: float
    restarts: int
    spec: JobSpec
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    ended_by: str
    def __init__(self, run_id: _Optional[str] = ..., phase: _Optional[str] = ..., reason: _Optional[str] = ..., generation: _Optional[int] = ..., generation_reason: _Optional[str] = ..., generation_age: _Optional[float] = ..., restarts: _Optional[int] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ..., ended_by: _Optional[str] = ...) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "incarnation", "slots", "host", "state", "group_rank", "attending_for", "heard_ago", "status")
    class StatusEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GROUP_RANK_FIELD_NUMBER: _ClassVar[int]
    ATTENDING_FOR_FIELD_NUMBER: _ClassVar[int]
    HEARD_AGO_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: int
    slots: int
    host: str
    state: str
    group_rank: int
    attending_for: float
    heard_ago: float
    status: _containers.ScalarMap[str, str]
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[int] = ..., slots: _Optional[int] = ..., host: _Optional[str] = ..., state: _Optional[str] = ..., group_rank: _Optional[int] = ..., attending_for: _Optional[float] = ..., heard_ago: _Optional[float] = ..., status: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("run_id", "node", "grace", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    node: str
    grace: float
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., node: _Optional[str] = ..., grace: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class ScaleRequest(_message.Message):
    __slots__ = ("run_id", "nodes", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    nodes: int
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., nodes: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ("run_id", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("run_ids", "ended", "force")
    RUN_IDS_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    run_ids: _containers.RepeatedScalarFieldContainer[str]
    ended: bool
    force: bool
    def __init__(self, run_ids: _Optional[_Iterable[str]] = ..., ended: _Optional[bool] = ..., force: _Optional[bool] = ...) -> None: ...

class ForgetReply(_message.Message):
    __slots__ = ("forgotten", "kept", "reason", "leader")
    class KeptEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    forgotten: _containers.RepeatedScalarFieldContainer[str]
    kept: _containers.ScalarMap[str, str]
    reason: str
    leader: str
    def __init__(self, forgotten: _Optional[_Iterable[str]] = ..., kept: _Optional[_Mapping[str, str]] = ..., reason: _Optional[str] = ..., leader: _Optional[str] = ...) -> None: ...

class AdminReply(_message.Message):
    __slots__ = ("accepted", "reason", "leader")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    reason: str
    leader: str
    def __init__(self, accepted: _Optional[bool] = ..., reason: _Optional[str] = ..., leader: _Optional[str] = ...) -> None: ...
