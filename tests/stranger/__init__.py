"""The stranger: two tables that recon has never seen, the truth about them, and a person who has only the command line.

`recon.drafting` and this package know nothing of each other. What is here is made from a seed:
`dirt` (how people write things), `made` (a world: two sets of records, the truth, and the rules that an analyst would
find), `worlds` and `more_worlds` (the worlds), `files` (headings, columns that mean nothing, encodings: the two files),
`way` (the stranger's way by the command line, and the verdict), `houses` (a database with links on a part of its rows).
"""
