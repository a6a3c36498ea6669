"""The talking-head systems: `api` is what they have in common, and each has one folder."""
