"""jaxtalk: NeRF talking heads in JAX, from a talking video to a talking radiance field."""

__version__ = "0.1.0"
