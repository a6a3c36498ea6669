"""Sound and moving pictures in files: reading any container, writing H.264 with AAC. PyAV behind plain NumPy."""
