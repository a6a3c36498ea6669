"""Compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def enable_compile_cache() -> Path:
    """Keeps what JAX compiles in $JAXTALK_CACHE/xla (~/.cache/jaxtalk/xla), unless a cache is already chosen.

    A folder that cannot be written costs the cache, not the run: JAX warns and compiles.
    """
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen:
        return Path(chosen)
    base = os.environ.get("JAXTALK_CACHE") or Path.home() / ".cache" / "jaxtalk"
    folder = Path(base).expanduser() / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
