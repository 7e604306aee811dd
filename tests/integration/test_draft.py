"""A spec drafted from two files: by the command line, and what may not happen."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest

from recon import new_workspace
from recon.errors import AlreadyExists, NoPlace, UsageError
from recon.spec_file import parse
from recon.starting import Started, with_files
from recon.workspace import Workspace
from tests.support import ROOT, recon

ODD = 'no: "x" # {a}'  # a heading that YAML would read as something else


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """Payments that name their invoice in another spelling, with rows that number themselves on both sides; and the truth."""
    folder, random = tmp_path_factory.mktemp("stranger"), Random(8)
    names = [f"{first} {last}" for first in "Ann Ben Eva Jon".split() for last in "Berg Lund Moe Roth Vik".split()]
    invoices: list[list[str]] = []
    payments: list[list[str]] = []
    partner: list[str] = []
    for number in range(1, 221):
        reference, amount = f"INV-{random.randrange(10**5, 10**6)}", random.randrange(500, 90_000) / 100
        issued, name = date(2024, 1, 1) + timedelta(random.randrange(300)), random.choice(names)
        if random.random() < 0.9:
            invoices.append([str(number), reference, name, f"{amount:.2f}", issued.isoformat()])
        if random.random() < 0.9:
            said = random.choice((reference, reference.lower().replace("-", " "), ""))
            paid = issued + timedelta(random.randrange(20))
            payments.append([said, name.upper(), f"{amount:.2f}".replace(".", ","), f"{paid:%d.%m.%Y}"])
            partner.append(str(number))
    order = random.sample(range(len(payments)), len(payments))
    target, source = folder / "payments.csv", folder / "invoices.csv"
    with target.open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["line", ODD, "Zahler für", "amount", "paid"])
        writer.writerows([[place, *payments[row]] for place, row in enumerate(order, start=1)])
    with source.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "number", "customer", "total", "issued"])
        writer.writerows(invoices)
    there = {row[0] for row in invoices}
    truth = {str(place): partner[row] for place, row in enumerate(order, start=1) if partner[row] in there}
    return target, source, truth


@pytest.fixture(scope="module")
def started(files: tuple[Path, Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Started:
    return with_files(tmp_path_factory.mktemp("houses") / "workspace", files[0], files[1], name="mine")


@pytest.mark.one_engine
def test_no_figure_of_a_comment_is_more_than_all(tmp_path: Path) -> None:
    tutorial = ROOT / "docs" / "assets" / "tutorial"
    started = with_files(tmp_path / "books", tutorial / "payments.csv", tutorial / "invoices.csv")
    assert started.spec is not None
    shares = re.findall(r"([0-9.]+) ?%", started.spec.read_text(encoding="utf-8"))
    assert shares
    assert max(float(share) for share in shares) <= 100


@pytest.mark.one_engine
def test_the_draft_is_right_about_files_that_nobody_described(
    started: Started, files: tuple[Path, Path, dict[str, str]], database: object
) -> None:
    """Numbers that only count the rows are no evidence; what is matched is right, and nearly all of it is found."""
    root = str(started.workspace.root)
    assert recon("load", "mine", "--workspace", root).code == 0
    assert recon("match", "mine", "--workspace", root).code in (0, 3)
    decided = csv.DictReader(io.StringIO(recon("decisions", "mine", "--format", "csv", "--workspace", root).out))
    pairs = {row["target_key"]: row["source_key"] for row in decided if row["outcome"] == "matched"}
    right = sum(files[2].get(target) == source for target, source in pairs.items())
    assert right / len(pairs) >= 0.99
    assert right / len(files[2]) >= 0.9


def test_encoding_delimiter_and_odd_headings_are_found_out_and_written_down(started: Started) -> None:
    """Nothing of a heading breaks out of its string or its comment."""
    assert started.spec is not None
    text = started.spec.read_text(encoding="utf-8")
    document = parse(text, started.spec)
    assert (document["target"]["encoding"], document["target"]["delimiter"]) == ("cp1252", ";")
    assert list(document["target"]["columns"]) == ["line", ODD, "Zahler für", "amount", "paid"]
    assert document["source"]["columns"]["total"] == "numeric"
    assert document["source"]["columns"]["issued"] == "date"
    assert text.startswith("# yaml-language-server: $schema=")


def test_no_value_of_a_record_stands_in_the_draft(started: Started, files: tuple[Path, Path, dict[str, str]]) -> None:
    assert started.spec is not None
    text = started.spec.read_text(encoding="utf-8")
    with files[1].open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            assert row["number"] not in text
            assert row["customer"] not in text


def test_a_draft_overwrites_nothing(started: Started, files: tuple[Path, Path, dict[str, str]]) -> None:
    assert started.spec is not None
    before = started.spec.read_bytes()
    with pytest.raises(AlreadyExists):
        with_files(started.workspace.root, files[0], files[1], name="mine")
    assert started.spec.read_bytes() == before


def test_records_that_cannot_be_told_apart_are_refused_with_what_to_do(tmp_path: Path, started: Started) -> None:
    twice, once = tmp_path / "twice.csv", tmp_path / "once.csv"
    twice.write_text("a,b\n1,x\n1,x\n", encoding="utf-8")
    once.write_text("a,b\n1,x\n2,y\n", encoding="utf-8")
    with pytest.raises(UsageError, match="told apart"):
        with_files(started.workspace.root, once, twice, name="other")
    assert "other" not in Workspace(started.workspace.root).reconciliations()


def _written(path: Path, heading: list[str], rows: list[list[str]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return path


def _people(count: int) -> list[list[str]]:
    random = Random(5)
    return [[f"N-{random.randrange(10**6)}", f"R{random.randrange(10**8)}", f"{n * 37}.5"] for n in range(count)]


def test_files_of_one_name_get_tables_of_their_own(tmp_path: Path, started: Started) -> None:
    """`recon load` makes one table of export.csv and EXPORT.csv; the copies are named apart, within a draft and beside others."""
    rows, root = _people(40), started.workspace.root
    target = _written(tmp_path / "a" / "export.csv", ["id", "ref", "paid"], rows)
    source = _written(
        tmp_path / "b" / "EXPORT.csv", ["no", "number", "total"], [[f"X{n}", *row[1:]] for n, row in enumerate(rows)]
    )
    first = with_files(root, target, source, name="first")
    later = with_files(root, _written(tmp_path / "c" / "Export.txt", ["id", "ref", "paid"], rows), source, name="later")
    place = Workspace(root)
    specs = [place.spec(item.name) for item in (first, later) if item.name]
    sides = [side for spec in specs for side in (spec.target, spec.source)]
    assert len({side.landing for side in sides}) == 4
    assert all((root / str(side.file)).is_file() for side in sides)


def test_headings_that_hide_or_cannot_be_columns_do_no_harm(tmp_path: Path, started: Started) -> None:
    """What turns the direction of reading is written as its number; a name that PostgreSQL keeps for itself is left out."""
    rows, root = _people(40), started.workspace.root
    target = _written(tmp_path / "turned.csv", ["id", "\u202eref", "paid", "ctid"], [[*row, "1"] for row in rows])
    source = _written(
        tmp_path / "plain.csv", ["no", "number", "total"], [[f"X{n}", *row[1:]] for n, row in enumerate(rows)]
    )
    spec = with_files(root, target, source, name="turned").spec
    assert spec is not None
    assert "\u202e" not in spec.read_text(encoding="utf-8")
    assert list(Workspace(root).spec("turned").target.columns) == ["id", "\u202eref", "paid"]


def test_a_file_of_very_many_columns_is_drafted_by_those_that_tell_most(tmp_path: Path, started: Started) -> None:
    people = _people(40)
    rest = ["even" if n % 2 else "odd" for n in range(40)]
    wide = _written(
        tmp_path / "wide.csv",
        [*[f"c{n}" for n in range(450)], "id", "ref", "paid"],
        [[*[said] * 450, *row] for said, row in zip(rest, people, strict=True)],
    )
    source = _written(
        tmp_path / "narrow.csv", ["no", "number", "total"], [[f"X{n}", *r[1:]] for n, r in enumerate(people)]
    )
    drafted = with_files(started.workspace.root, wide, source, name="wide", target_key="id").draft
    assert drafted is not None
    assert drafted.rules[0].asked[0].weight.comparison.target.column in ("ref", "paid")


def test_a_title_in_place_of_the_heading_is_named_where_nothing_is_found(tmp_path: Path, started: Started) -> None:
    titled = _written(tmp_path / "titled.csv", ["Payments of March", "", ""], [["id", "ref", "paid"], *_people(40)])
    source = _written(tmp_path / "those.csv", ["no", "number", "total"], _people(40)[::-1])
    with pytest.raises(UsageError, match=r"titled.csv 2 of 3 columns were left out"):
        with_files(started.workspace.root, titled, source, name="titled", source_key="no")


def _partly_linked(folder: Path) -> tuple[Path, Path]:
    """Payments of which every third one holds its invoice's number already; every field stands in quotes, as many exports have it."""
    random = Random(3)
    invoices: list[list[str]] = []
    payments: list[list[str]] = []
    for number in range(160):
        key, day = f"INV-{1000 + number}", date(2024, 1, 1) + timedelta(random.randrange(300))
        amount, score = f"{random.randrange(100, 99_999) / 100:.2f}", str(number % 7) if number % 5 else ""
        invoices.append([key, day.isoformat(), amount])
        payments.append([f"p{number}", f"{day:%d.%m.%Y}", amount, score, key if number % 3 == 0 else ""])
    random.shuffle(payments)
    for name, heading, rows in (
        ("paid.csv", ["id", "day", "amount", "score", "invoice"], payments),
        ("due.csv", ["number", "date", "total"], invoices),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([heading, *rows])
    return folder / "paid.csv", folder / "due.csv"


def test_a_column_of_a_file_that_holds_some_links_is_taken_for_the_link(tmp_path: Path, started: Started) -> None:
    """What is in it is a link and measures the rules; a quoted empty field is no link, and no reason to call numbers texts."""
    paid, due = _partly_linked(tmp_path)
    root = started.workspace.root
    drafted = with_files(root, paid, due).draft
    assert drafted is not None
    assert (drafted.link, drafted.linked) == ("invoice", 54)
    assert drafted.rules[0].known == drafted.rules[0].true == 54
    assert Workspace(root).spec("paid").target.columns["score"] == "bigint"
    where = "--workspace", str(root)
    assert recon("load", "paid", *where).code == 0
    found = recon("match", "paid", "--json", *where).json
    assert found["outcomes"] == {"linked": 54, "matched": 106}


def test_numbers_that_are_among_the_keys_by_accident_are_no_links(tmp_path: Path, started: Started) -> None:
    people = _people(60)
    target = _written(
        tmp_path / "rated.csv", ["id", "ref", "paid", "stars"],
        [[*row, str(n % 5 + 1) if n % 4 else ""] for n, row in enumerate(people)],
    )  # fmt: skip
    source = _written(
        tmp_path / "owed.csv", ["no", "number", "total"], [[str(n + 1), *row[1:]] for n, row in enumerate(people)]
    )
    drafted = with_files(started.workspace.root, target, source).draft
    assert drafted is not None
    assert drafted.link == "linked_owed_no"
    named = with_files(started.workspace.root, target, source, name="named", link="owner").draft
    assert named is not None
    assert (named.link, named.linked) == ("owner", None)


def test_a_number_that_contradicts_is_for_a_person_to_judge(tmp_path: Path, started: Started) -> None:
    """Name, day and amount agree, but both sides name an invoice, and not the same one: proposed, never linked."""
    random = Random(11)
    targets: list[list[str]] = []
    sources: list[list[str]] = []
    for number in range(300):
        reference, name = (
            f"R{random.randrange(10**6)}",
            f"{random.choice('Ann Bob Cid Dan Eva Fay'.split())} {number % 97}",
        )
        day, amount = date(2024, 1, 1) + timedelta(random.randrange(300)), f"{random.randrange(100, 99_999) / 100:.2f}"
        other = f"R{random.randrange(10**6)}" if number % 4 == 0 else reference
        targets.append([f"t{number}", reference, name, day.isoformat(), amount])
        sources.append([f"s{random.randrange(10**7)}", other, name, day.isoformat(), amount])
    root = started.workspace.root
    heading = ["id", "ref", "name", "day", "amount"]
    with_files(
        root, _written(tmp_path / "said.csv", heading, targets), _written(tmp_path / "sent.csv", heading, sources)
    )
    where = "--workspace", str(root)
    assert recon("load", "said", *where).code == 0
    assert recon("match", "said", "--json", *where).json["outcomes"] == {"matched": 225, "proposed": 75}


def test_a_refused_draft_leaves_no_new_workspace_and_goes_through_once_the_file_is_mended(tmp_path: Path) -> None:
    target = _written(tmp_path / "some.csv", ["id", "ref", "paid"], [["1", "x", "1"], ["1", "x", "1"]])
    source = _written(tmp_path / "other.csv", ["no", "number", "total"], _people(40))
    for folder in (tmp_path / "fresh", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        ended = recon("init", str(folder), "--target", str(target), "--source", str(source))
        assert ended.code == 2
        assert not folder.exists() or (folder.name == "empty" and not any(folder.iterdir()))
    _written(target, ["id", "ref", "paid"], [[f"X{n}", *row[1:]] for n, row in enumerate(_people(40))])
    assert recon("init", str(tmp_path / "fresh"), "--target", str(target), "--source", str(source)).code == 0
    schema = (tmp_path / "fresh" / "reconciliation.schema.json").read_text(encoding="utf-8")
    assert json.loads(schema)["title"] == "Reconciliation"
    assert recon("database", "stop", "--workspace", str(tmp_path / "fresh")).code == 0


def test_a_workspace_that_cannot_be_made_is_said_and_nothing_of_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = _written(tmp_path / "some.csv", ["id", "ref", "paid"], _people(3))
    for place in (Path("/proc/new"), target / "new"):  # no folder can be made in either
        ended = recon("init", str(place), "--target", str(target), "--source", str(target), "--json")
        assert (ended.code, ended.json["error"]) == (1, "NoPlace")
        assert ended.json["what"] == f"No workspace can be made at {place}."
        assert "where you may write" in ended.json["next"]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "fresh", tmp_path / "empty"):
        with pytest.raises(NoPlace, match="No space left"):
            new_workspace.init(folder)
    assert not (tmp_path / "fresh").exists()
    assert not any((tmp_path / "empty").iterdir())


def test_options_of_init_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    for number, options in enumerate((["--name", "x"], ["--link", "x"], ["--key-target", "x"])):
        ended = recon("init", str(tmp_path / str(number)), *options)
        assert ended.code == 2
        assert f"{options[0]} says nothing here." in ended.err
        assert not (tmp_path / str(number)).exists()
    url = "postgresql://nobody@127.0.0.1:1/none"
    assert (
        "--key-source says nothing here." in recon("init", str(tmp_path / "d"), "--from", url, "--key-source", "x").err
    )


def test_the_document_of_a_draft_names_the_passes_and_the_next_commands(started: Started) -> None:
    document = json.loads(json.dumps(started.as_dict()))
    assert document["name"] == "mine"
    assert document["passes"]
    assert all(0.9 < item["precision"] < 1 for item in document["passes"] if item["accept"] == "auto")
    assert document["next"][0] == "recon load mine"
