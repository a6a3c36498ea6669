"""Compiled programs are kept between runs."""

from __future__ import annotations

import os
import platform
import zlib
from pathlib import Path

import jax


def enable_compile_cache() -> Path:
    """Keeps what JAX compiles in $JAXTALK_CACHE/xla/HOST (~/.cache/jaxtalk/xla/HOST), unless a cache is chosen already.

    A folder that cannot be written costs the cache, not the run: JAX warns and compiles.
    """
    chosen = jax.config.values["jax_compilation_cache_dir"]
    if chosen:
        return Path(chosen)
    base = os.environ.get("JAXTALK_CACHE") or Path.home() / ".cache" / "jaxtalk"
    folder = Path(base).expanduser() / "xla" / _host()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _host() -> str:
    """A name for this kind of CPU: programs for one may crash on another, and home folders are often shared."""
    described = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(errors="replace").splitlines()
        described = next((line for line in lines if line.startswith(("flags", "Features"))), described)
    return f"{platform.machine()}-{zlib.crc32(described.encode()):08x}"
