"""Files that others trained or scanned: what they are, where they come from, and how they reach this machine.

    jaxtalk.weights.get('face_landmarker')                   download, check, convert, keep in the cache
    jaxtalk.weights.get('ict_facekit', source='FaceXModel')  from a folder or file on this machine
    jaxtalk.weights.find('face_landmarker')                  the path of what is there already; never downloads
    jaxtalk.weights.load('alexnet')                          a network of ours with these weights
    jaxtalk.weights.read_checkpoint('model.pth')             any torch, safetensors or npz file as plain arrays

The cache is $JAXTALK_CACHE, by default ~/.cache/jaxtalk.
"""

from __future__ import annotations

from jaxtalk.weights.convert import Layout
from jaxtalk.weights.fetch import get
from jaxtalk.weights.networks import check, convert_file, load
from jaxtalk.weights.readers import read_checkpoint, read_state_dict
from jaxtalk.weights.register import REGISTER, Weights
from jaxtalk.weights.store import WeightsAbsent, cache_folder, find, names

__all__ = [
    "REGISTER",
    "Layout",
    "Weights",
    "WeightsAbsent",
    "cache_folder",
    "check",
    "convert_file",
    "find",
    "get",
    "load",
    "names",
    "read_checkpoint",
    "read_state_dict",
]
