"""Connections to services, by address."""

from __future__ import annotations

import grpc.aio

from rendezvous.security import Security

# Without the ping timeout a connection to a stopped peer stays up for more than a minute.
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 5_500),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.ping_timeout_ms", 2_000),
)
OPTIONS = (
    *KEEPALIVE,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_http_proxy", 0),
)


class Channels:
    """One channel for each address, shared by the sessions that hold this object."""

    def __init__(self, security: Security | None = None) -> None:
        self._credentials = None if security is None else security.credentials()
        self._channels: dict[str, grpc.aio.Channel] = {}

    def get(self, endpoint: str) -> grpc.aio.Channel:
        channel = self._channels.get(endpoint)
        if channel is None:
            if self._credentials is None:
                channel = grpc.aio.insecure_channel(endpoint, options=OPTIONS)
            else:
                channel = grpc.aio.secure_channel(endpoint, self._credentials, options=OPTIONS)
            self._channels[endpoint] = channel
        return channel

    async def show(self, security: Security) -> None:
        """Connect with these certificates from now on."""
        self._credentials = security.credentials()
        await self.close()

    async def drop(self, endpoint: str) -> None:
        """Forget a channel that failed, and with it its back-off."""
        channel = self._channels.pop(endpoint, None)
        if channel is not None:
            await channel.close(None)

    async def close(self) -> None:
        while self._channels:
            await self._channels.popitem()[1].close(None)
