"""The first line of a transfer of mirrors: who sends, what comes, and the proof that it may. Pure.

One line of JSON: the sender's name, the generation by whose secret it is signed, the length and
the checksum of the description that follows, and a digest over all of it and the receiver's nonce.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field

from trainer.names import MIRROR, named
from trainer.outside.document import loads
from trainer.outside.echo import shown

NONCE_BYTES = 16
MAX_GREETING_BYTES = 4096
"""A node's name has 253 characters at most, and the rest is of fixed length."""
MAX_DESCRIPTION_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class GenerationKey:
    """What the nodes of a generation know each other by, for as long as it lasts."""

    generation: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a sender says of itself and of what it sends: `size` bytes of description, and more."""

    name: str
    generation: int
    size: int
    checksum: str

    def signed(self, key: GenerationKey, nonce: bytes) -> bytes:
        """The line, with its newline."""
        told = {
            "name": self.name,
            "generation": self.generation,
            "size": self.size,
            "checksum": self.checksum,
            "digest": self._digest(key.secret, nonce),
        }
        return json.dumps(told, separators=(",", ":")).encode() + b"\n"

    def _digest(self, secret: bytes, nonce: bytes) -> str:
        told = [self.name, self.generation, self.size, self.checksum]
        text = json.dumps(told, separators=(",", ":"))
        return hmac.new(secret, nonce + text.encode(), hashlib.sha256).hexdigest()

    def proven(self, secret: bytes, nonce: bytes, digest: str) -> bool:
        """Whether who says so knows the secret; in constant time."""
        own = self._digest(secret, nonce).encode()
        return hmac.compare_digest(own, digest.encode(errors="replace"))


def read_greeting(line: bytes) -> tuple[Greeting, str]:
    """What a line says, and the digest that is to prove it. Raises ValueError.

    What it says is believed by nobody before that is proven, so that its values are only bounded.
    """
    told = loads(line)
    if not isinstance(told, dict):
        raise ValueError("the sender does not say who it is")
    name, checksum, digest = told.get("name"), told.get("checksum"), told.get("digest")
    generation, size = told.get("generation"), told.get("size")
    if not isinstance(checksum, str) or not isinstance(digest, str):
        raise ValueError("the sender does not say who it is")
    if not isinstance(generation, int) or not isinstance(size, int):
        raise ValueError("the sender does not say who it is")
    if not 0 <= size <= MAX_DESCRIPTION_BYTES:
        raise ValueError(f"a description of {shown(size)} bytes is refused")
    greeting = Greeting(
        name=named(MIRROR, name), generation=generation, size=size, checksum=checksum
    )
    return greeting, digest
