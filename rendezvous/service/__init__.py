"""The rendezvous service: one leader by election, followers that point to it."""

from __future__ import annotations

from rendezvous.service.server import Running, embedded, running, serve

__all__ = ["Running", "embedded", "running", "serve"]
