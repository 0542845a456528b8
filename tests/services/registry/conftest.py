"""Fixtures of the registry's tests."""

from __future__ import annotations

import pytest

from tests.shellkit import PLAIN, small_network


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> bytes:
    """A signed bundle, about 30 kB."""
    import gossamer
    from gossamer.bundle import keys

    key = keys.new_key("test", tmp_path_factory.mktemp("keys"))
    result = gossamer.optimize(small_network(), PLAIN, key=key.private, name="small", version="7")
    return result.data
