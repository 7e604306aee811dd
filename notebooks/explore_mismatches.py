# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""Explore the latest run of a reconciliation: what is not linked, why, what wider windows would give, and settle it.

Open it with `recon notebook explore`, or with `marimo run` and these in the environment: RECON_WORKSPACE (a folder;
else the nearest workspace), RECON_RECONCILIATION (chosen at first), RECON_DATABASE_URL (else the embedded database).
What is chosen stands in the address: reload it or send it to somebody to see the same.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full", app_title="recon: explore mismatches")


@app.cell
def _():
    import os
    from types import SimpleNamespace

    import marimo as mo

    import recon
    from recon.desk import (
        explore,
        explore_actions,
        explore_facets,
        explore_records,
        explore_view,
        explore_what_if,
        explore_why,
        page,
    )

    return (
        SimpleNamespace,
        explore,
        explore_actions,
        explore_facets,
        explore_records,
        explore_view,
        explore_what_if,
        explore_why,
        mo,
        os,
        page,
        recon,
    )


@app.cell
def _(mo):
    mo.md("""
    # Why is it not linked?

    Choose a reconciliation, then a record: every rule tells what it found for it. No record is changed here: what you
    decide is kept for the next run.
    """)
    return


@app.cell
def _(explore_view, mo, page):
    def stop_at(problem):
        """Show a problem in place of what would follow."""
        mo.stop(problem is not None, problem and mo.callout(mo.Html(page.problem_html(problem)), kind="danger"))

    def sql_of(said):
        """The statements behind a view, one click away."""
        return mo.accordion({"SQL": mo.Html(explore_view.statements_html(said))})

    return sql_of, stop_at


@app.cell
def _(explore, os, page, recon, stop_at):
    bench, _problem = page.attempt(recon.open, os.environ.get("RECON_WORKSPACE") or None)
    stop_at(_problem)
    actor, _problem = page.attempt(lambda: bench.actor)
    stop_at(_problem)
    database, workspace = bench.database, bench.workspace
    names, _problem = page.attempt(explore.with_run, database, workspace)
    stop_at(_problem)
    return actor, database, names, workspace


@app.cell
def _(mo):
    # What changes without a control of its own: the address, a newer run, and what people decided.
    get_address, set_address = mo.state(0, allow_self_loops=True)
    get_run, set_run = mo.state(0)
    get_said, set_said = mo.state(None, allow_self_loops=True)
    get_decided, set_decided = mo.state(0, allow_self_loops=True)
    return get_address, get_decided, get_run, get_said, set_address, set_decided, set_run, set_said


@app.cell
def _(mo, set_address):
    def go(**changes):
        """Put choices into the address, and show what they let through; an empty one is taken out."""
        address = mo.query_params()
        for name, value in changes.items():
            if value:
                address[name] = value
            elif name in address:
                del address[name]
        set_address(lambda times: times + 1)

    return (go,)


@app.cell
def _(explore_facets, go, mo, names, os, page):
    asked_for = mo.query_params().get("name") or os.environ.get("RECON_RECONCILIATION", "")
    _name = asked_for if asked_for.isidentifier() else "NAME"
    _todo = page.prose(f"There is no run yet. Run `recon match {_name}` first, then reload this page.")
    mo.stop(not names, mo.callout(mo.Html(_todo), kind="info"))
    _nothing = dict.fromkeys((*explore_facets.FACETS, "key", "order", "page"), "")
    reconciliation = mo.ui.dropdown(
        names,
        value=asked_for if asked_for in names else names[0],
        allow_select_none=False,
        label="Reconciliation",
        on_change=lambda name: go(**_nothing, name=name),
    )
    return asked_for, reconciliation


@app.cell
def _(actor, explore_view, mo, reconciliation):
    mo.hstack([reconciliation, mo.md(f"you are **{explore_view.plain(actor)}**")], justify="start", wrap=True, gap=2)
    return


@app.cell
def _(asked_for, database, explore, mo, names, page, workspace):
    mo.stop(asked_for in ("", *names))
    _, _problem = page.attempt(explore.view, database, workspace, asked_for)
    mo.callout(mo.Html(page.problem_html(_problem)), kind="warn") if _problem else None
    return


@app.cell
def _(database, explore, get_run, mo, page, reconciliation, stop_at, workspace):
    get_run()
    view, _problem = page.attempt(explore.view, database, workspace, reconciliation.value)
    stop_at(_problem)
    mo.callout(mo.Html(page.prose(view.note)), kind="warn") if view.note else None
    return (view,)


@app.cell
def _(explore_view, mo, sql_of, view):
    mo.vstack(
        [
            mo.Html(explore_view.top_html(view)),
            mo.Html(explore_view.numbers_html(view)),
            sql_of(view.statements),
        ],
        gap=1,
    )
    return


@app.cell
def _(mo, view):
    mo.stop(view.left > 0)
    mo.callout("Nothing is left to explain: every record is reconciled.", kind="success")
    return


@app.cell
def _(explore_records, get_address, mo, view):
    get_address()
    asked = explore_records.asked_in(mo.query_params().get_all, view)
    return (asked,)


@app.cell
def _(asked, explore_facets, explore_view, go, mo, view):
    def _toggle(facet, value):
        now = [item for item in asked.chosen[facet] if item != value]
        chosen = [*now, value] if len(now) == len(asked.chosen[facet]) else now
        go(page="", key="", **{facet: explore_facets.in_address(facet, chosen, view.cube)})

    boxes = {
        facet: {
            value: mo.ui.checkbox(
                value=value in asked.chosen[facet],
                label=explore_view.choice_label(facet, value, number),
                on_change=lambda _, facet=facet, value=value: _toggle(facet, value),
            )
            for value, number in values.items()
        }
        for facet, values in view.cube.counts(asked.chosen).items()
    }
    everything = mo.ui.button(
        label="Clear all filters",
        on_change=lambda _: go(
            page="", key="", **{**dict.fromkeys(explore_facets.FACETS, ""), "outcome": [explore_facets.ALL]}
        ),
    )
    what_is_left = mo.ui.button(
        label="Left to explain",
        on_change=lambda _: go(page="", key="", **dict.fromkeys(explore_facets.FACETS, "")),
    )
    return boxes, everything, what_is_left


@app.cell
def _(boxes, everything, explore_view, mo, what_is_left):
    _columns = [
        mo.vstack(
            [
                mo.md(f"**{explore_view.heading(_facet)}**"),
                mo.vstack(list(_values.values()), gap=0.15).style(max_height="13rem", overflow_y="auto"),
            ],
            gap=0.25,
        ).style(min_width="10rem")
        for _facet, _values in boxes.items()
    ]
    mo.vstack(
        [
            mo.md("## Records"),
            mo.hstack(_columns, justify="start", align="start", wrap=True, gap=2.5),
            mo.hstack([what_is_left, everything], justify="start", wrap=True, gap=0.5),
        ],
        gap=1,
    )
    return


@app.cell
def _(asked, database, explore_records, page, stop_at, view):
    found, _problem = page.attempt(explore_records.page, database, view, asked)
    stop_at(_problem)
    return (found,)


@app.cell
def _(asked, explore_records, found, go, mo):
    key = mo.ui.text(
        value=asked.key,
        label="One record by its key",
        placeholder="any outcome; Enter",
        on_change=lambda value: go(key=value.strip(), page=""),
    )
    order = mo.ui.dropdown(
        list(explore_records.ORDERS),
        value=asked.order,
        allow_select_none=False,
        label="Order",
        on_change=lambda value: go(order="" if value == explore_records.ORDERS[0] else value, page=""),
    )
    previous = mo.ui.button(
        label="← Previous",
        disabled=found.number <= 1,
        on_change=lambda _: go(page=str(found.number - 1) if found.number > 2 else ""),
    )
    following = mo.ui.button(
        label="Next →", disabled=found.number >= found.pages, on_change=lambda _: go(page=str(found.number + 1))
    )
    number = mo.ui.number(
        start=1,
        stop=found.pages,
        step=1,
        value=found.number,
        label="Page",
        on_change=lambda value: go(page=str(int(value or 1))),
    )
    return following, key, number, order, previous


@app.cell
def _(explore_view, following, found, key, mo, number, order, previous):
    _pages = [previous, number, mo.md(f"of {found.pages:,}"), following] if found.pages > 1 else []
    mo.vstack(
        [
            mo.hstack([key, order], justify="start", wrap=True, gap=1.5),
            mo.hstack(
                [mo.Html(explore_view.page_html(found)), *_pages], justify="start", align="center", wrap=True, gap=0.75
            ),
        ]
    )
    return


@app.cell
def _(explore_records, explore_view, found, mo, sql_of, view):
    mo.stop(
        not found.rows,
        mo.vstack(
            [
                mo.callout("No record is like this. Clear a filter, or look for another key.", kind="neutral"),
                sql_of(found.statements),
            ]
        ),
    )
    _rows = explore_records.table_rows(view, found)
    table = mo.ui.table(
        _rows,
        selection="single",
        initial_selection=[0] if found.total == 1 else None,
        page_size=explore_records.PAGE_ROWS,
        pagination=False,
        format_mapping=dict.fromkeys(_rows[0], explore_view.shown),
        show_column_summaries=False,
        show_data_types=False,
        show_download=False,
        show_search=False,
    )
    table
    return (table,)


@app.cell
def _(asked, database, explore_records, explore_view, found, mo, sql_of, view):
    mo.stop(not found.rows)
    _name = f"{view.run.reconciliation} {view.run.run}"
    mo.vstack(
        [
            mo.hstack(
                [
                    mo.download(
                        data=lambda: explore_records.as_csv(database, view, asked),
                        filename=f"{_name}.csv",
                        mimetype="text/csv",
                        label="Download as CSV",
                    ),
                    mo.download(
                        data=lambda: explore_records.as_excel(database, view, asked),
                        filename=f"{_name}.xlsx",
                        mimetype=explore_records.EXCEL,
                        label="Download as Excel",
                    ),
                    mo.Html(explore_view.file_note_html(found)),
                ],
                justify="start",
                align="center",
                wrap=True,
                gap=0.75,
            ),
            sql_of(found.statements),
        ]
    )
    return


@app.cell
def _(explore_records, found, mo, table, view):
    row = explore_records.chosen_row(view, found, table.value)
    mo.stop(row is None, mo.callout("Select a record above to see why it was decided as it was.", kind="info"))
    return (row,)


@app.cell
def _(database, explore_why, get_decided, page, row, stop_at, view):
    get_decided()
    why, _problem = page.attempt(explore_why.why, database, view, row)
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
def _(explore_view, mo, sql_of, view, why):
    mo.vstack(
        [
            mo.md("### Side by side"),
            mo.Html(explore_view.candidates_html(view, why)),
            sql_of(why.statements),
        ]
    )
    return


@app.cell
def _(SimpleNamespace, explore_actions, mo, why):
    choices = explore_actions.choices(why)
    kind = mo.ui.dropdown(
        explore_actions.KINDS, value=next(iter(explore_actions.KINDS)), allow_select_none=False, label="Decide:"
    )
    other = mo.ui.dropdown(
        choices.candidates, value=next(iter(choices.candidates)), allow_select_none=False, label="this record:"
    )
    typed = mo.ui.text(label="its key, if another:")
    reason = mo.ui.text(label="because (required):", placeholder="why", full_width=True)
    standing = mo.ui.dropdown(choices.standing, label="What stands:")
    who = mo.ui.text(
        value=(why.open_break or {}).get("assignee") or "", label="Assign the break to:", placeholder="nobody"
    )
    # A cell that names a control runs anew with each value it takes, and makes its buttons anew: a click that follows at
    # once would go to a button that is no more. The buttons read the controls through this instead.
    form = SimpleNamespace(kind=kind, other=other, typed=typed, reason=reason, standing=standing, who=who)
    return choices, form, kind, other, reason, standing, typed, who


@app.cell
def _(actor, database, explore_actions, form, mo, page, set_decided, set_said, view, why):
    def _tell(function, *args, **kwargs):
        done, problem = page.attempt(function, *args, **kwargs)
        set_said((why, done, problem))
        if problem is None:  # else the form stays as it was filled in
            set_decided(lambda times: times + 1)

    _spec = view.bound.spec
    decide = mo.ui.run_button(
        label="Decide",
        kind="success",
        on_change=lambda _: _tell(
            explore_actions.decide,
            database,
            _spec,
            why,
            kind=form.kind.value,
            other=form.other.value or form.typed.value,
            reason=form.reason.value,
            actor=actor,
        ),
    )
    undo = mo.ui.run_button(
        label="Undo",
        on_change=lambda _: _tell(
            explore_actions.undo, database, _spec, form.standing.value, reason=form.reason.value, actor=actor
        ),
    )
    assign = mo.ui.run_button(
        label="Assign",
        on_change=lambda _: _tell(explore_actions.assign, database, view, why, who=form.who.value, actor=actor),
    )
    return assign, decide, undo


@app.cell
def _(
    actor, assign, decide, explore_actions, explore_view, get_said, kind, mo, other, page, reason, standing, typed, undo,
    who, why,
):  # fmt: skip
    _said = get_said()
    _told = []
    # What was done is told when its record was looked at again: the form is made anew then, and whoever reads the answer
    # may type into it. Told before, the new form would take away what was typed meanwhile.
    if _said and _said[0].key == why.key and (_said[2] or _said[0] is not why):
        _, _done, _problem = _said
        _told = [
            mo.callout(mo.Html(page.problem_html(_problem)), kind="danger")
            if _problem
            else mo.callout(mo.Html(explore_view.done_html(_done)), kind="success")
        ]
    _needs_other = kind.value != "exclude"
    _form = [kind, *([other] if _needs_other else []), *([typed] if _needs_other and other.value is None else [])]
    _rows = [mo.hstack(_form, justify="start", wrap=True, gap=1), mo.hstack([reason, decide], widths=[1, 0], wrap=True)]
    if why.standing:
        _rows.append(mo.hstack([standing, *([undo] if standing.value else [])], justify="start", wrap=True, gap=1))
    if why.open_break:
        _rows += [
            mo.Html(explore_view.break_html(why.open_break)),
            mo.hstack([who, assign], justify="start", align="end", wrap=True, gap=1),
        ]
    mo.vstack([mo.md(f"### Settle it\n\nYou decide as **{explore_view.plain(actor)}**."), *_rows, *_told], gap=0.75)
    return


@app.cell
def _(mo):
    again = mo.ui.run_button(label="Match again")
    return (again,)


@app.cell
def _(again, database, explore_actions, explore_view, get_decided, mo, page, stop_at, view):
    get_decided()
    _waiting, _problem = page.attempt(explore_actions.waiting, database, view)
    stop_at(_problem)
    mo.hstack(
        [again, mo.Html(explore_view.waiting_html(view, _waiting))], justify="start", align="center", wrap=True, gap=1
    )
    return


@app.cell
def _(again, database, explore_actions, mo, page, reconciliation, set_run, stop_at, workspace):
    mo.stop(not again.value)
    with mo.status.spinner(title="Deciding every record anew …"):
        _run, _problem = page.attempt(explore_actions.match_again, database, workspace, reconciliation.value)
    stop_at(_problem)
    set_run(lambda times: times + 1)
    return


@app.cell
def _(explore_what_if, mo, view):
    windows = explore_what_if.sliders(view)
    mo.stop(
        not windows,
        mo.md("## What if?\n\nThese rules have no window (`within`), so there is no tolerance to widen or narrow."),
    )
    widths = mo.ui.dictionary(
        {
            name: mo.ui.slider(
                steps=explore_what_if.STEPS,
                value=1.0,
                show_value=True,
                debounce=True,
                label=explore_what_if.label(window),
            )
            for name, window in windows.items()
        }
    )
    exactly = mo.ui.run_button(label="Count exactly")
    whole_curve = mo.ui.run_button(label="Try every tolerance")
    return exactly, whole_curve, widths


@app.cell
def _(mo, widths):
    mo.vstack(
        [
            mo.md("## What if?\n\nHow wide each window is, times its present tolerance. Nothing is kept."),
            *widths.elements.values(),
        ]
    )
    return


@app.cell
def _(database, exactly, explore_view, explore_what_if, mo, page, sql_of, stop_at, view, widths):
    _chosen = mo.Html(explore_what_if.tolerances_html(view, widths.value))
    mo.stop(not explore_what_if.factors(view, widths.value), mo.vstack([_chosen, mo.md("Move a slider to try it.")]))
    with mo.status.spinner(title="Deciding again, dry …", remove_on_exit=True):
        _found, _problem = page.attempt(explore_what_if.tried, database, view, widths.value, exactly=exactly.value)
    stop_at(_problem)
    mo.vstack(
        [
            _chosen,
            mo.Html(explore_what_if.result_html(view, _found)),
            *([exactly] if _found.estimated else []),
            sql_of(_found.statements),
        ]
    )
    return


@app.cell
def _(whole_curve):
    whole_curve
    return


@app.cell
def _(database, explore_what_if, mo, page, stop_at, view, whole_curve):
    mo.stop(not whole_curve.value)
    with mo.status.spinner(title="Deciding every record at each tolerance …", remove_on_exit=True):
        _curve, _problem = page.attempt(explore_what_if.curve, database, view)
    stop_at(_problem)
    mo.Html(explore_what_if.curve_html(_curve))
    return


@app.cell
def _(explore_view, mo, view):
    mo.accordion({"The SQL of this matching": mo.Html(explore_view.matching_html(view))})
    return


if __name__ == "__main__":
    app.run()
