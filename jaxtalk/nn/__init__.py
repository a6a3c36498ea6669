"""Flax NNX modules that several systems share. Every size is an argument; nothing is read from a config."""
