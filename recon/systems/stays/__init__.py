"""Reservations of many organizations kept in step with Stays: where they are fetched from, and how they are read."""
