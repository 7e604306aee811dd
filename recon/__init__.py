"""recon: match two sets of records, explain what does not match, and backfill with signed SQL."""

__version__ = "0.1.0"
