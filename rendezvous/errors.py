"""Every error the rendezvous raises on purpose.

RendezvousError
├── ConfigurationError         timeouts, security or addresses don't fit together
├── MessageError               the other side sent what can't be accepted
├── Unreachable                no service answered in time
└── StoreError                 the key-value store did not do what was asked
    ├── StoreUnavailable       no endpoint answered in time; nothing was changed
    ├── OutcomeUnknown         a write was sent and not answered: applied, or not, or not yet
    ├── Deposed                the leadership that fenced a write is over; nothing was changed
    ├── LeaseLost              the lease has run out or was revoked
    └── StoreRefused           the store understood and said no; the same again will fail again
        ├── RevisionCompacted  the revision asked for is no longer kept: list again
        ├── NotAuthenticated   the name, password or certificate is not accepted
        ├── PermissionDenied   the user may not touch this key
        ├── StoreFull          the store's quota is used up
        └── RequestTooLarge    one request holds too much
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rendezvous.wire import rendezvous_pb2 as wire


class RendezvousError(Exception):
    """The root of the tree."""


class ConfigurationError(RendezvousError):
    """What the user configured can't work; the message says what is wrong and how to mend it."""


class MessageError(RendezvousError):
    """A message that can't be accepted; `code` is the wire's name for why."""

    def __init__(self, code: wire.Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unreachable(RendezvousError):
    """No service answered in time."""


class StoreError(RendezvousError):
    """The key-value store did not do what was asked."""


class StoreUnavailable(StoreError):
    """No endpoint answered in time, and what was asked has changed nothing. Worth trying again."""


class OutcomeUnknown(StoreError):
    """A write was sent and its answer never came. It may be applied, now or a little later.

    Read before writing again: a second blind write could be overtaken by the first.
    """


class Deposed(StoreError):
    """The leadership that fenced a write has ended, or may have; another may lead."""


class LeaseLost(StoreError):
    """The lease has run out or was revoked; its keys are gone."""


class StoreRefused(StoreError):
    """The store understood the request and will not do it."""


class RevisionCompacted(StoreRefused):
    """History before `revision` is no longer kept."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"history before revision {revision} is compacted away; list again")
        self.revision = revision


class NotAuthenticated(StoreRefused):
    """The name, the password or the certificate is not accepted."""


class PermissionDenied(StoreRefused):
    """The user may not read or write this key."""


class StoreFull(StoreRefused):
    """The store's quota is used up: compact and defragment it, or raise the quota."""


class RequestTooLarge(StoreRefused):
    """One request holds too many writes or too many bytes."""
