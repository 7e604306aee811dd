"""Mirrors that are kept in step with their source: fetched, reconciled, followed up, scope by scope."""
