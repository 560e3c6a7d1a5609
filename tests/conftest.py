"""Fixtures of the whole tree. Imports stay lazy, so that pure tests start in a blink."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.store_contract")
