"""Networks of others, whose published weights `jaxtalk.weights` reads: the same numbers from the same files."""
