"""The evaluation protocols by name."""

from __future__ import annotations

from jaxtalk.errors import JaxtalkError
from jaxtalk.evaluation.protocols import cross, fewshot, flip, heldout, reconstruct, self_driven
from jaxtalk.evaluation.records import Protocol

PROTOCOLS: dict[str, Protocol] = {
    module.PROTOCOL.name: module.PROTOCOL for module in (self_driven, fewshot, heldout, cross, flip, reconstruct)
}


def load_protocol(name: str) -> Protocol:
    """The protocol of that name. An unknown name is an error that lists the known ones."""
    if name not in PROTOCOLS:
        raise JaxtalkError(f"protocol {name!r}: there is none of that name; known are {', '.join(sorted(PROTOCOLS))}")
    return PROTOCOLS[name]
