"""Names as the API server accepts them."""

from __future__ import annotations

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")


def is_label(text: str) -> bool:
    """A DNS label (RFC 1123): pods' hostnames, containers, volumes, namespaces."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_service_name(text: str) -> bool:
    """A DNS label that begins with a letter (RFC 1035)."""
    return len(text) <= 63 and _SERVICE.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """A DNS subdomain (RFC 1123): most objects' names."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_label_value(text: str) -> bool:
    """The value of a label; may be empty."""
    return text == "" or (len(text) <= 63 and _QUALIFIED.fullmatch(text) is not None)


def is_qualified(text: str) -> bool:
    """The key of a label or annotation: `name` or `prefix/name`."""
    prefix, slash, name = text.rpartition("/")
    if slash and not is_subdomain(prefix):
        return False
    return len(name) <= 63 and _QUALIFIED.fullmatch(name) is not None
