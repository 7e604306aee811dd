"""From two sets of records that nobody has described yet to a spec: what was found, why, and how sure it is."""
