"""Evaluation: `runner.evaluate` tests a run by a protocol, `report` writes the pages."""
