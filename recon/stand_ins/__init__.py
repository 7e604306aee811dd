"""Stand-ins for outside systems: real HTTP on this machine, for demos without a network and for tests.

Each keeps its records in memory, counts what it was asked, and can be told to fail (`faults`). Nothing here is used when a
real system is meant.
"""
