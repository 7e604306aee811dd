"""Explore the latest run of a reconciliation: what is not linked, and why.

Open it with `recon notebook explore`, or with `marimo run` and these in the environment: RECON_WORKSPACE (a folder;
else the nearest workspace), RECON_RECONCILIATION (chosen at first), RECON_DATABASE_URL (else the embedded database).
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="recon: explore mismatches")


@app.cell
def _():
    import os
    from pathlib import Path

    import marimo as mo

    from recon.desk import explore, explore_view, page
    from recon.reports.tables import count, percent, records, shown
    from recon.workflow import open_database
    from recon.workspace import Workspace

    return Path, Workspace, count, explore, explore_view, mo, open_database, os, page, percent, records, shown


@app.cell
def _(mo):
    mo.md("""
    # Why is it not linked?

    Choose a reconciliation, then a record: every rule tells what it found for it. Nothing here changes a record.
    """)
    return


@app.cell
def _(explore_view, mo, page):
    def stop_at(problem):
        """Show a problem in place of what would follow."""
        mo.stop(problem is not None, problem and mo.callout(mo.Html(page.problem_html(problem)), kind="danger"))

    return (stop_at,)


@app.cell
def _(Path, Workspace, explore, open_database, os, page, stop_at):
    _folder = os.environ.get("RECON_WORKSPACE")
    workspace, _problem = page.attempt(Workspace.find, Path(_folder) if _folder else None)
    stop_at(_problem)
    database, _problem = page.attempt(open_database, workspace)
    stop_at(_problem)
    names, _problem = page.attempt(explore.with_run, database, workspace)
    stop_at(_problem)
    return database, names, workspace


@app.cell
def _(explore_view, mo, names, os, page):
    asked_for = os.environ.get("RECON_RECONCILIATION", "")
    _name = asked_for if asked_for.isidentifier() else "NAME"
    _todo = page.prose(f"There is no run yet. Run `recon match {_name}` first, then reload this page.")
    mo.stop(not names, mo.callout(mo.Html(_todo), kind="info"))
    reconciliation = mo.ui.dropdown(
        names,
        value=asked_for if asked_for in names else names[0],
        allow_select_none=False,
        label="Reconciliation",
    )
    reconciliation
    return asked_for, reconciliation


@app.cell
def _(asked_for, database, explore, explore_view, mo, names, page, workspace):
    mo.stop(asked_for in ("", *names))
    _, _problem = page.attempt(explore.view, database, workspace, asked_for)
    mo.callout(mo.Html(page.problem_html(_problem)), kind="warn")
    return


@app.cell
def _(database, explore, explore_view, mo, page, reconciliation, stop_at, workspace):
    view, _problem = page.attempt(explore.view, database, workspace, reconciliation.value)
    stop_at(_problem)
    mo.callout(mo.Html(page.prose(view.note)), kind="warn") if view.note else None
    return (view,)


@app.cell
def _(count, explore_view, mo, percent, shown, view):
    _expected = view.bound.spec.expect.coverage
    _share = f"expected {percent(float(_expected))}" if _expected is not None else "of the population is reconciled"
    if view.precision is not None:
        _share = f"{_share} · precision {percent(view.precision)}"
    _stats = [
        mo.stat(
            count(view.run.population),
            label="Population",
            caption=f"run of {shown(view.run.started_at)}",
            bordered=True,
        ),
        mo.stat(percent(view.run.coverage), label="Coverage", caption=_share, bordered=True),
        mo.stat(count(view.left), label="Left to explain", caption="not linked and not matched", bordered=True),
    ]
    mo.vstack([mo.hstack(_stats, justify="start", gap=1), mo.Html(explore_view.counts_html(view))], gap=1)
    return


@app.cell
def _(mo, view):
    mo.stop(view.left > 0)
    mo.callout("Nothing is left to explain: every record is reconciled.", kind="success")
    return


@app.cell
def _(explore, mo, view):
    outcomes = mo.ui.multiselect(explore.outcome_options(view), explore.unreconciled_options(view), label="Outcome")
    reasons = mo.ui.multiselect(explore.reason_options(view), label="Reason")
    key = mo.ui.text(label="or one record by its key", placeholder="any outcome")
    mo.vstack([mo.md("## Records"), mo.hstack([outcomes, reasons, key], justify="start", wrap=True, gap=2)])
    return key, outcomes, reasons


@app.cell
def _(database, explore, key, outcomes, page, reasons, stop_at, view):
    found, _problem = page.attempt(explore.records, database, view, outcomes.value, reasons.value, key.value)
    stop_at(_problem)
    return (found,)


@app.cell
def _(count, explore, found, mo, records, shown, view):
    mo.stop(not found.rows, mo.callout("No record is like this. Choose other outcomes or reasons.", kind="neutral"))
    _rows = explore.table_rows(view, found)
    table = mo.ui.table(
        _rows,
        selection="single",
        initial_selection=[0] if found.total == 1 else None,
        page_size=10,
        format_mapping=dict.fromkeys(_rows[0], shown),
        show_column_summaries=False,
        show_data_types=False,
        show_download=False,
        label=records(found.total)
        + ("" if found.total == len(_rows) else f", the first {count(len(_rows))} of them here"),
    )
    table
    return (table,)


@app.cell
def _(explore, found, mo, table, view):
    row = explore.chosen(view, found, table.value)
    mo.stop(row is None, mo.callout("Select a record above to see why it was decided as it was.", kind="info"))
    return (row,)


@app.cell
def _(database, explore, page, row, stop_at, view):
    why, _problem = page.attempt(explore.why, database, view, row)
    stop_at(_problem)
    return (why,)


@app.cell
def _(explore_view, mo, page, why):
    mo.vstack(
        [
            mo.Html(explore_view.title_html(why)),
            *([mo.callout(mo.Html(page.prose(why.changed)), kind="warn")] if why.changed else []),
            mo.md("### Pass by pass"),
            mo.Html(explore_view.steps_html(why)),
        ]
    )
    return


@app.cell
def _(explore_view, mo, view, why):
    mo.vstack([mo.md("### Side by side"), mo.Html(explore_view.candidates_html(view, why))])
    return


@app.cell
def _(explore_view, mo, view):
    mo.accordion({"The SQL of this matching": mo.Html(explore_view.sql_html(view))})
    return


if __name__ == "__main__":
    app.run()
