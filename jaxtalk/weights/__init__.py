"""Files that others trained or scanned: what they are, where they come from, and how they reach this machine.

    jaxtalk.weights.get('face_landmarker')                   download, check, keep in the cache
    jaxtalk.weights.get('ict_facekit', source='FaceXModel')  from a folder or file on this machine
    jaxtalk.weights.find('face_landmarker')                  the path of what is there already; never downloads

The cache is $JAXTALK_CACHE, by default ~/.cache/jaxtalk.
"""

from __future__ import annotations

from jaxtalk.weights.register import REGISTER, Weights
from jaxtalk.weights.store import cache_folder, find, get, names

__all__ = ["REGISTER", "Weights", "cache_folder", "find", "get", "names"]
