"""Speech as networks read it: features on a regular grid, cut into windows centred on video frames."""

from jaxtalk.audio.features import FeatureSpec, audio_windows, clip_windows, load_stored

__all__ = ["FeatureSpec", "audio_windows", "clip_windows", "load_stored"]
