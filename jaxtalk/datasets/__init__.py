"""Packed collections of clips: the TFDS builder `talking_clips`, splits in time and by identity."""

from jaxtalk.datasets.packed import PackedClip, open_packed, read_manifest
from jaxtalk.datasets.packing import changed_clips, pack
from jaxtalk.datasets.splits import Manifest, make_manifest, time_split

__all__ = [
    "Manifest",
    "PackedClip",
    "changed_clips",
    "make_manifest",
    "open_packed",
    "pack",
    "read_manifest",
    "time_split",
]
