"""Downstream tasks: items are made once, then scored one by one on every model."""
