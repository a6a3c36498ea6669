"""From clips to batches: working-size views of packed clips, and the deterministic stream of a stage's examples."""
