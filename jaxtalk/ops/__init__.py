"""The mathematics of radiance fields: pure `jax.numpy` functions without settings, modules or state."""
