# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The reviewer's desk: what a plan (or the draft of one) would write, how it stands now, and the sign-off.

Open it with `recon notebook preview`, or with `marimo run` and these in the environment: RECON_WORKSPACE (a folder;
else the nearest workspace), RECON_RECONCILIATION and RECON_PLAN (chosen at first, where the address has no `?plan=`),
RECON_DATABASE_URL (else the embedded database), RECON_USER (who acts).
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="recon: preview a backfill")


@app.cell
def _():
    import os

    import marimo as mo

    import recon
    from recon.desk import page, preview, preview_actions, preview_outcomes, preview_view
    from recon.desk.preview_rows import Filter

    return (
        Filter,
        mo,
        os,
        page,
        preview,
        preview_actions,
        preview_outcomes,
        preview_view,
        recon,
    )


@app.cell
def _(mo):
    mo.md("""
    # What would be written?

    Read what a plan changes, how it stands now, and sign it or say no. Every button asks the same checks as the
    command line; looking changes nothing.
    """)
    return


@app.cell
def _(mo, page):
    def stop_at(problem):
        """Show a problem in place of what would follow."""
        mo.stop(problem is not None, problem and mo.callout(mo.Html(page.problem_html(problem)), kind="danger"))

    return (stop_at,)


@app.cell
def _(mo):
    # What was done on this page, and how often: whatever shows a plan looks at `done`, so that it is read anew.
    outcome, set_outcome = mo.state(None)
    done, set_done = mo.state(0)
    _address = mo.query_params()
    wanted, set_wanted = mo.state(_address.get("plan", ""))
    wanted_name = _address.get("reconciliation", "")

    def choose(plan):
        """Remember what is looked at, here and in the address."""
        _address.set("plan", plan)
        set_wanted(plan)

    def choose_reconciliation(name):
        """Remember whose plans are listed."""
        _address.set("reconciliation", name)
        _address.remove("plan")
        set_wanted("")

    def finished(result):
        """Show what became of an action, and all else as it is after it."""
        set_outcome(result)
        set_done(lambda number: number + 1)

    return choose, choose_reconciliation, done, finished, outcome, wanted, wanted_name


@app.cell
def _(os, page, preview, recon, stop_at):
    bench, _problem = page.attempt(recon.open, os.environ.get("RECON_WORKSPACE") or None)
    stop_at(_problem)
    database, workspace = bench.database, bench.workspace
    here, _problem = page.attempt(preview.place, database, workspace)
    stop_at(_problem)
    names, _problem = page.attempt(preview.reconciliations, database, workspace)
    stop_at(_problem)
    return database, here, names, workspace


@app.cell
def _(choose_reconciliation, database, mo, names, os, page, preview, stop_at, wanted_name, workspace):
    first_plan = mo.query_params().get("plan") or os.environ.get("RECON_PLAN", "")
    _name = wanted_name or os.environ.get("RECON_RECONCILIATION", "")
    _todo = page.prose(f"There is no run yet. Run `recon match {_name or 'NAME'}` first, then reload this page.")
    mo.stop(not names, mo.callout(mo.Html(_todo), kind="info"))
    if first_plan and first_plan != preview.DRAFT:
        _name, _problem = page.attempt(preview.reconciliation_of, database, workspace, first_plan)
        stop_at(_problem)
    reconciliation = mo.ui.dropdown(
        names,
        value=_name if _name in names else names[0],
        allow_select_none=False,
        on_change=choose_reconciliation,
        label="Reconciliation",
    )
    return first_plan, reconciliation


@app.cell
def _(choose, database, done, first_plan, mo, page, preview, reconciliation, stop_at, wanted, workspace):
    done()
    _choices, _problem = page.attempt(preview.choices, database, workspace, reconciliation.value)
    stop_at(_problem)
    _labels = {plan: label for label, plan in _choices.items()}
    subject = mo.ui.dropdown(
        _choices,
        value=_labels.get(wanted()) or _labels.get(first_plan) or next(iter(_choices)),
        allow_select_none=False,
        on_change=choose,
        full_width=True,
        label="Plan",
    )
    mo.vstack([reconciliation, subject])
    return (subject,)


@app.cell
def _(database, mo, page, preview, preview_view, reconciliation, stop_at, subject):
    # A draft of many records takes as long as their matching.
    draft_asked = None
    if subject.value == preview.DRAFT:
        _run, _problem = page.attempt(preview.latest_run, database, reconciliation.value)
        stop_at(_problem)
        if _run.population > preview.SLOW_POPULATION:
            draft_asked = mo.ui.run_button(label="Draft the rows")
    mo.vstack([mo.Html(preview_view.slow_draft_html(_run)), draft_asked]) if draft_asked else None
    return (draft_asked,)


@app.cell
def _(database, done, draft_asked, mo, page, preview, reconciliation, stop_at, subject, workspace):
    done()
    mo.stop(draft_asked is not None and not draft_asked.value)
    if subject.value == preview.DRAFT:
        with mo.status.spinner(title="Drafting", subtitle="The rules decide anew; nothing is kept."):
            seen, _problem = page.attempt(preview.open_draft, database, workspace, reconciliation.value)
    else:
        seen, _problem = page.attempt(preview.open_plan, database, workspace, subject.value)
    stop_at(_problem)
    return (seen,)


@app.cell
def _(here, mo, preview_view, seen):
    _problem = preview_view.spec_problem(seen)
    mo.vstack(
        [
            mo.Html(preview_view.header_html(seen, here)),
            *([mo.callout(mo.Html(_problem), kind="warn")] if _problem else []),
        ]
    )
    return


@app.cell
def _(mo, outcome, preview_outcomes, seen):
    _found = outcome()
    mo.stop(not preview_outcomes.beside(_found, seen, "plan"))
    mo.callout(mo.Html(preview_outcomes.outcome_html(_found, seen)), kind=preview_outcomes.kind(_found))
    return


@app.cell
def _(mo, seen):
    mo.stop(
        seen.plan is None and not seen.rows,
        mo.callout("Nothing would change by the latest run: there is nothing to plan.", kind="info"),
    )
    something = True
    return (something,)


@app.cell
def _(mo, preview_view, seen, something):
    mo.vstack([mo.md("## What will change"), mo.Html(preview_view.groups_html(seen))]) if something else None
    return


@app.cell
def _(mo, seen, something):
    mo.stop(not something)
    by_pass = mo.ui.multiselect(seen.pass_options(), label="Pass")
    by_action = mo.ui.multiselect(seen.action_options(), label="Action")
    return by_action, by_pass


@app.cell
def _(Filter, by_action, by_pass, database, mo, page, preview, seen, stop_at):
    chosen = Filter(tuple(by_pass.value), tuple(by_action.value))
    _page, _problem = page.attempt(preview.rows, database, seen, chosen)
    stop_at(_problem)
    number = mo.ui.number(1, _page.pages, value=1, step=1, label=f"Page, of {_page.pages:,}")
    return chosen, number


@app.cell
def _(by_action, by_pass, chosen, database, mo, number, page, preview, preview_view, seen, stop_at):
    _page, _problem = page.attempt(preview.rows, database, seen, chosen, int(number.value or 1))
    stop_at(_problem)
    _files = [
        mo.download(
            lambda kind=kind: preview.download(database, seen, chosen, kind),
            filename=preview.download_name(seen, kind),
            mimetype=mime,
            label=label,
        )
        for kind, mime, label in (
            ("csv", "text/csv", "CSV"),
            ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "Excel"),
        )
    ]
    _note = preview_view.download_words(seen, _page)
    mo.vstack(
        [
            mo.md("## Rows before and after"),
            mo.hstack([by_pass, by_action, number, *_files], justify="start", align="end", wrap=True, gap=1.5),
            mo.md(preview_view.page_words(seen, _page)),
            mo.Html(preview_view.rows_html(seen, _page)),
            *([mo.md(_note)] if _note else []),
            mo.accordion(
                {
                    "The SQL of these rows": mo.Html(preview_view.sql_html(_page.sql, _page.values)),
                    **{
                        f"{name}: the SQL": mo.Html(preview_view.sql_html(sql)) for name, sql in seen.statements.items()
                    },
                },
                multiple=True,
                lazy=True,
            ),
        ]
    )
    return


@app.cell
def _(mo, seen, something):
    mo.stop(seen.plan is not None or not something)
    make = mo.ui.run_button(label="Make the plan", kind="success")
    mo.vstack(
        [
            mo.md("## Make the plan"),
            mo.md(
                "It freezes these rows as they are then, with the four scripts and a digest, for a reviewer to sign."
            ),
            make,
        ]
    )
    return (make,)


@app.cell
def _(choose, database, finished, make, mo, preview_actions, seen, workspace):
    mo.stop(not make.value)
    with mo.status.spinner(title="Making the plan"):
        _result = preview_actions.make(database, workspace, seen.reconciliation)
    if _result.result is not None:
        choose(_result.plan)
    finished(_result)
    return


@app.cell
def _(database, mo, page, preview, seen, stop_at, workspace):
    mo.stop(seen.plan is None)
    with mo.status.spinner(title="Comparing the plan with what is there"):
        review, _problem = page.attempt(preview.review, database, workspace, seen.plan.plan)
    stop_at(_problem)
    return (review,)


@app.cell
def _(mo, preview_view, review, seen):
    mo.vstack(
        [
            mo.md("## How it stands now"),
            *([mo.callout(mo.Html(preview_view.problems_html(review)), kind="danger")] if review.problems else []),
            mo.md("### Drift since the plan"),
            mo.Html(preview_view.drift_html(review, seen)),
            mo.md("### Lint"),
            mo.Html(preview_view.lint_html(review)),
        ]
    )
    return


@app.cell
def _(mo, preview_view, review):
    mo.vstack(
        [
            mo.md("### The four scripts"),
            mo.accordion(
                {name: mo.Html(html) for name, html in preview_view.scripts(review).items()}, multiple=True, lazy=True
            ),
        ]
    )
    return


@app.cell
def _(database, mo, page, preview, preview_view, review, stop_at):
    _entries, _problem = page.attempt(preview.log, database, review.plan.plan)
    stop_at(_problem)
    mo.vstack([mo.md("### What was done with it"), mo.Html(preview_view.log_html(_entries))])
    return


@app.cell
def _(mo, preview_view, review):
    mo.vstack([mo.md("## Sign-off"), mo.Html(preview_view.sign_off_html(review))])
    return


@app.cell
def _(here, mo, preview_actions, review, workspace):
    obstacles = preview_actions.obstacles(review, here.actor)
    way = mo.ui.radio(
        preview_actions.ways(workspace, review.plan),
        value=preview_actions.ways(workspace, review.plan)[0],
        inline=True,
        label="Approve",
    )
    return obstacles, way


@app.cell
def _(mo, obstacles):
    typed = mo.ui.text(placeholder="first 8 characters", max_length=64, label="The digest begins with", debounce=False)
    key = mo.ui.text(placeholder="~/.ssh/id_ed25519", label="Key file on this machine", full_width=True)
    signature = mo.ui.file(max_size=100_000, label="The .sig file")
    approve = mo.ui.run_button(label="Approve", kind="success", disabled="approve" in obstacles)
    reason = mo.ui.text(placeholder="why not", label="Reason", full_width=True)
    reject = mo.ui.run_button(label="Reject", kind="danger", disabled="reject" in obstacles)
    return approve, key, reason, reject, signature, typed


@app.cell
def _(approve, key, mo, obstacles, preview_actions, preview_view, reason, reject, review, signature, typed, way):
    _more = {
        preview_actions.BY_NAME: [mo.md("Your name is recorded: a record of who said yes, not a proof.")],
        preview_actions.BY_KEY: [
            key,
            mo.md("A key without a passphrase, or the `.pub` file of one that the ssh-agent here holds."),
        ],
        preview_actions.BY_FILE: [mo.Html(preview_view.signing_html(review.plan)), signature],
    }
    mo.vstack(
        [
            mo.Html(preview_view.obstacle_html(obstacles, ("approve", "reject"))),
            way,
            *_more[way.value],
            mo.hstack([typed, approve], justify="start", align="end", wrap=True, gap=1),
            mo.hstack([reason, reject], justify="start", align="end", wrap=True, gap=1),
        ]
    )
    return


@app.cell
def _(approve, database, finished, key, mo, preview_actions, review, signature, typed, way, workspace):
    mo.stop(not approve.value)
    with mo.status.spinner(title="Approving"):
        _result = preview_actions.approve(
            database,
            workspace,
            review.plan,
            typed.value,
            way.value,
            key=key.value,
            signature=preview_actions.uploaded(signature.value),
        )
    finished(_result)
    return


@app.cell
def _(database, finished, mo, preview_actions, reason, reject, review, workspace):
    mo.stop(not reject.value)
    finished(preview_actions.reject(database, workspace, review.plan, reason.value))
    return


@app.cell
def _(mo, outcome, preview_outcomes, seen):
    _found = outcome()
    mo.stop(not preview_outcomes.beside(_found, seen, "signing"))
    mo.callout(mo.Html(preview_outcomes.outcome_html(_found, seen)), kind=preview_outcomes.kind(_found))
    return


@app.cell
def _(mo, obstacles):
    dry_run = mo.ui.run_button(label="Dry run", disabled="dry run" in obstacles)
    apply_it = mo.ui.run_button(label="Apply: write the rows", kind="danger", disabled="apply" in obstacles)
    verify = mo.ui.run_button(label="Verify", kind="success", disabled="verify" in obstacles)
    try_revert = mo.ui.run_button(label="Dry run of the revert", disabled="revert" in obstacles)
    revert = mo.ui.run_button(label="Revert: undo the rows", kind="danger", disabled="revert" in obstacles)
    meant = mo.ui.text(placeholder="first 8 characters", max_length=64, label="The digest begins with", debounce=False)
    return apply_it, dry_run, meant, revert, try_revert, verify


@app.cell
def _(apply_it, dry_run, meant, mo, obstacles, preview_view, revert, try_revert, verify):
    mo.vstack(
        [
            mo.md("## Apply, verify, revert"),
            mo.md("A dry run is rolled back. Before rows are written or undone, type how the digest begins."),
            mo.Html(preview_view.obstacle_html(obstacles, ("dry run", "apply", "verify", "revert"))),
            mo.hstack([dry_run, try_revert, verify], justify="start", wrap=True, gap=1),
            mo.hstack([meant, apply_it, revert], justify="start", align="end", wrap=True, gap=1),
        ]
    )
    return


@app.cell
def _(database, dry_run, finished, mo, preview_actions, review, workspace):
    mo.stop(not dry_run.value)
    with mo.status.spinner(title="Trying the first rows; all of it is rolled back"):
        _result = preview_actions.dry_run(database, workspace, review.plan)
    finished(_result)
    return


@app.cell
def _(apply_it, database, finished, meant, mo, preview_actions, preview_outcomes, review, seen, workspace):
    mo.stop(not apply_it.value)

    def _draw(moment):
        mo.output.replace(mo.Html(preview_outcomes.progress_html("Applying", moment)))

    finished(preview_actions.apply(database, workspace, review.plan, meant.value, _draw, seen.done))
    return


@app.cell
def _(database, finished, mo, preview_actions, review, verify, workspace):
    mo.stop(not verify.value)
    with mo.status.spinner(title="Proving with verify.sql and Great Expectations"):
        _result = preview_actions.verify(database, workspace, review.plan)
    finished(_result)
    return


@app.cell
def _(database, finished, mo, preview_actions, review, try_revert, workspace):
    mo.stop(not try_revert.value)
    with mo.status.spinner(title="Trying to undo; all of it is rolled back"):
        _result = preview_actions.try_revert(database, workspace, review.plan)
    finished(_result)
    return


@app.cell
def _(database, finished, meant, mo, preview_actions, preview_outcomes, revert, review, workspace):
    mo.stop(not revert.value)

    def _draw(moment):
        mo.output.replace(mo.Html(preview_outcomes.progress_html("Reverting", moment)))

    finished(preview_actions.revert(database, workspace, review.plan, meant.value, _draw))
    return


@app.cell
def _(mo, outcome, preview_outcomes, seen):
    _found = outcome()
    mo.stop(not preview_outcomes.beside(_found, seen, "writing"))
    mo.callout(mo.Html(preview_outcomes.outcome_html(_found, seen)), kind=preview_outcomes.kind(_found))
    return


if __name__ == "__main__":
    app.run()
