"""The command line: `jaxtalk VERB`. Each verb imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

from jaxtalk.cli import collections, prepare, runs, synthesize, weights  # each adds verbs to `main`
from jaxtalk.cli.verb import main

__all__ = ["collections", "main", "prepare", "runs", "synthesize", "weights"]
