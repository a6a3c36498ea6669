"""How the published files of networks are laid out, a module per family; found by the name in the register."""

from __future__ import annotations

import importlib

from jaxtalk.errors import JaxtalkError
from jaxtalk.weights.convert import Layout
from jaxtalk.weights.store import REGISTER, entry


def find(name: str) -> Layout:
    """The layout of the network `name`; its module is imported now. Raises `JaxtalkError` for what is no network."""
    where = entry(name).layout
    if where is None:
        networks = ", ".join(sorted(other for other, known in REGISTER.items() if known.layout))
        raise JaxtalkError(f"{name} is no network with converted weights; those are {networks}")
    module, attribute = where.split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
