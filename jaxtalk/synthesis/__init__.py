"""A trained head, or a picture, and a recording of speech become a video with sound that says where it comes from."""

from __future__ import annotations

from jaxtalk.synthesis.pictures import PictureModels
from jaxtalk.synthesis.pipeline import SynthesisResult, synthesize

__all__ = ["PictureModels", "SynthesisResult", "synthesize"]
