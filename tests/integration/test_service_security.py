"""Who and what the service turns away: tokens that do not hold, bodies and addresses that are none; and nothing changes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from recon.database.connect import Database
from recon.errors import UsageError
from recon.service import logs, tokens
from recon.service.answers import Problem
from recon.service.middleware import LARGEST
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests import two_houses
from tests.copies import Copies
from tests.service import KEY, Answer, Client, application, asked, token
from tests.support import recon, rows
from tests.two_houses import NORTH, Houses

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

RSA = rsa.generate_private_key(65537, 2048)
PUBLIC = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
INJECTIONS = (
    "'; DROP TABLE stay; --", '"; DROP TABLE recon.plans; --', "1 OR 1=1", "') OR true --", "x' UNION SELECT 1 --",
    "$1", "%s", "{0}", "\\'; --", "../../etc/passwd", "<script>alert(1)</script>", "ｓｔａｙｓ", "a" * 5_000,
)  # fmt: skip

PARAMETERS = {
    "runs": ("limit", "cursor", "unknown"),
    "decisions": ("run", "outcome", "cursor"),
    "breaks": ("state", "outcome", "side", "assignee", "cursor"),
    "plans": ("state", "cursor"),
}


@pytest.fixture
def houses(copies: Copies, database: Database, workspace: Workspace) -> Houses:
    return two_houses.again(copies, database, workspace)


@pytest.fixture
def client(database: Database, workspace: Workspace, houses: Houses) -> Iterator[Client]:
    with asked(application(workspace, database)) as found:
        yield found


def everything(database: Database) -> list[Any]:
    """Every row of recon's tables and of the users' own."""
    names = rows(
        database,
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('recon', 'public') ORDER BY 1",
    )
    return [
        (name, rows(database, f"SELECT md5(coalesce(string_agg(x::text, '|' ORDER BY x::text), '')) FROM {name} AS x"))
        for (name,) in names
    ]


def is_problem(answer: Answer, *statuses: int) -> None:
    """An answer in the one form of errors, with one of these statuses, which tells nothing of the inside."""
    assert answer.status in statuses, answer
    Problem.model_validate(answer.json, extra="forbid")
    assert answer.json["request"] == answer.headers["x-request-id"]
    for inside in ("Traceback", "psycopg", "sqlalchemy", "/site-packages", KEY, "SELECT"):
        assert inside not in answer.text


# -- tokens ----------------------------------------------------------------------------------------------


def _unsigned() -> str:
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "none", "typ": "JWT"}, {"sub": "eve", "aud": "recon", "exp": 9_999_999_999, "roles": ["admin"], "organizations": "*"})
    ) + "."  # fmt: skip


def test_a_token_that_does_not_hold_lets_nobody_in(client: Client, database: Database, houses: Houses) -> None:
    """SYN-08: 401 for each, without a word of the token, and nothing changes."""
    before, now = everything(database), datetime.now(UTC)
    bad: dict[str, str | None] = {
        "none": None,
        "another scheme": "Basic Ym9iOmJvYg==",
        "no token": "Bearer ",
        "no JWT": "Bearer abc",
        "two": f"Bearer {token()} {token()}",
        "expired": f"Bearer {token(roles=['admin'], exp=now - timedelta(minutes=1))}",
        "not yet valid": f"Bearer {token(roles=['admin'], nbf=now + timedelta(minutes=5))}",
        "another audience": f"Bearer {token(roles=['admin'], aud='other')}",
        "no audience": f"Bearer {token(roles=['admin'], aud=None)}",
        "no end": f"Bearer {token(roles=['admin'], exp=None)}",
        "nobody": f"Bearer {token(roles=['admin'], sub=None)}",
        "unseen": f"Bearer {token('bob' + chr(0xFE0F), roles=['admin'])}",
        "blank": f"Bearer {token(chr(0x3164), roles=['admin'])}",
        "no person": f"Bearer {token('Ships  with recon', roles=['admin'])}",
        "no name": f"Bearer {token('  ', roles=['admin'])}",
        "a name that steers": f"Bearer {token('bob' + chr(27) + '[2J', roles=['admin'])}",
        "roles that are no list": f"Bearer {_with(roles='admin')}",
        "organizations that are no list": f"Bearer {_with(organizations={'a': 1})}",
        "alg none": f"Bearer {_unsigned()}",
        "another secret": f"Bearer {token(roles=['admin'], key=KEY + 'x')}",
        "another algorithm": f"Bearer {token(roles=['admin'], key=KEY * 2, algorithm='HS512')}",
        "RS256 with a key of one's own": f"Bearer {token(roles=['admin'], key=RSA, algorithm='RS256')}",
        "changed": f"Bearer {_changed(token(roles=['viewer']))}",
        "endless": "Bearer " + "a" * 9_000,
    }
    for what, given in bad.items():
        headers = {"Authorization": given} if given is not None else {}
        for method, path in (
            ("GET", "/reconciliations"),
            ("POST", f"/plans/{houses.north_plan}/approve"),
            ("POST", f"/plans/{houses.north_plan}/reject"),
        ):
            answer = Client(client.http, headers).ask(
                method, path, content=b'{"not JSON', headers={"Content-Type": "application/json"}
            )
            is_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer"), what
            assert given is None or len(given) < 20 or given[7:] not in answer.text
    twice = client.http.get("/reconciliations", headers=[("Authorization", f"Bearer {token()}")] * 2)
    assert twice.status_code == 401
    assert everything(database) == before
    assert (
        Client(client.http, {"Authorization": f"bearer {token(exp=now - timedelta(seconds=3))}"})
        .get("/reconciliations")
        .status
        == 200
    )


def _with(**claims: Any) -> str:
    return jwt.encode({**jwt.decode(token(roles=["admin"]), KEY, ["HS256"], audience="recon"), **claims}, KEY)


def _changed(signed: str) -> str:
    head, body, signature = signed.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["roles"] = ["admin"]
    return ".".join([head, base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("="), signature])


def test_a_public_key_is_no_secret_and_each_kind_of_key_has_its_own_algorithm(workspace: Workspace) -> None:
    """SYN-08: HS256 over the text of the public key, which everybody has, is refused; so is an issuer that is another."""
    nowhere = Database("postgresql://ann@127.0.0.1:1/none")

    def status(key: Any, algorithm: str, public: str, **claims: Any) -> int:
        app = application(workspace, nowhere, RECON_JWT_SECRET="", RECON_JWT_PUBLIC_KEY=public, RECON_JWT_ISSUER="us")
        given = (
            token(roles=["viewer"], key=key, algorithm=algorithm, iss="us", **claims) if key else _hs_by_hand(public)
        )
        with asked(app) as client:
            return Client(client.http, {"Authorization": f"Bearer {given}"}).get("/reconciliations").status

    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    spelled = {
        key: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        for key in (RSA, curve, edwards)
    }
    for key, algorithm in ((RSA, "RS256"), (curve, "ES256"), (edwards, "EdDSA")):
        assert status(key, algorithm, spelled[key]) == 200
        assert status(key, algorithm, spelled[key].replace("\n", "\\n")) == 200  # on one line, as .env may have it
        assert status(None, "HS256", spelled[key]) == 401
    assert status(RSA, "PS256", PUBLIC) == 401
    assert status(RSA, "RS256", PUBLIC) == 200
    assert status(edwards, "EdDSA", PUBLIC) == 401
    app = application(workspace, nowhere, RECON_JWT_ISSUER="us")
    with asked(app) as client:
        for issuer in ("them", None):
            given = token(roles=["viewer"], iss=issuer)
            assert Client(client.http, {"Authorization": f"Bearer {given}"}).get("/reconciliations").status == 401


def _hs_by_hand(secret: str) -> str:
    """PyJWT itself refuses to sign with a public key as the secret; whoever attacks does not."""
    claims = {"sub": "eve", "aud": "recon", "iss": "us", "exp": 9_999_999_999, "roles": ["admin"], "organizations": "*"}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    ]
    signature = hmac.new(secret.encode(), b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_key_that_does_not_hold_is_refused_and_without_one_nobody_is_let_in(workspace: Workspace) -> None:
    """SYN-10: 32 bytes at least, one kind of key, the public half; the key itself is not told."""
    nowhere = Database("postgresql://ann@127.0.0.1:1/none")
    private = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    weak = (
        rsa.generate_private_key(65537, 1024)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    for variables, says in (
        ({"RECON_JWT_SECRET": "short-secret"}, "12 bytes"),
        ({"RECON_JWT_SECRET": KEY, "RECON_JWT_PUBLIC_KEY": PUBLIC}, "both set"),
        ({"RECON_JWT_PUBLIC_KEY": private}, "no public key"),
        ({"RECON_JWT_PUBLIC_KEY": KEY}, "no public key"),
        ({"RECON_JWT_PUBLIC_KEY": weak}, "does not count"),
    ):
        with pytest.raises(UsageError, match=says) as error:
            tokens.trust(variables)
        assert not any(value in str(error.value) for value in variables.values())
        with asked(application(workspace, nowhere, **({"RECON_JWT_SECRET": ""} | variables))) as client:
            is_problem(client.get("/reconciliations"), 503)
    with asked(application(workspace, nowhere, RECON_JWT_SECRET="")) as client:
        unset = client.get("/reconciliations")
        is_problem(unset, 503)
        assert "RECON_JWT_SECRET" in unset.json["next"]
        assert client.get("/healthz").status == 200
    refused = recon(
        "serve", "--port", "0", "--workspace", str(_short(workspace).root), url="postgresql://ann@127.0.0.1:1/none"
    )
    assert (refused.code, "has 12 bytes" in refused.err) == (2, True)


def _short(workspace: Workspace) -> Workspace:
    (workspace.root / "recon.toml").touch()
    (workspace.root / ".env").write_text("RECON_JWT_SECRET=short-secret\n", encoding="utf-8")
    return Workspace(workspace.root)


def test_the_command_makes_a_token_that_is_let_in(workspace: Workspace) -> None:
    """SYN-08: for first steps; only with the secret, only for roles that there are."""
    (workspace.root / "recon.toml").touch()
    (workspace.root / ".env").write_text(f"RECON_JWT_SECRET={KEY}\n", encoding="utf-8")
    asks = (
        "token",
        "--sub",
        "Bo  Lee",
        "--role",
        "viewer",
        "--organization",
        NORTH,
        "--workspace",
        str(workspace.root),
    )
    made = recon(*asks)
    who = tokens.read(made.out.strip(), tokens.trust({"RECON_JWT_SECRET": KEY}))
    assert (who.name, who.roles, who.scopes) == ("Bo Lee", {"viewer"}, {NORTH})
    assert KEY not in made.out + made.err
    assert recon(*asks, "--role", "root").code == 2
    (workspace.root / ".env").write_text(f"RECON_JWT_PUBLIC_KEY={json.dumps(PUBLIC)}\n", encoding="utf-8")
    assert recon(*asks).code == 2


def test_roles_grant_what_they_say(client: Client, database: Database, houses: Houses) -> None:
    """SYN-08: viewers read, reviewers say yes and no, admins may all; who has no role may nothing."""
    before = everything(database)
    plan = f"/plans/{houses.north_plan}"
    for roles, reads, decides in (
        (["viewer"], 200, 403),
        (["operator"], 200, 403),
        ([], 403, 403),
        (["root"], 403, 403),
        (["reviewer"], 200, 422),
        (["admin"], 200, 422),
    ):
        who = client.as_("bob", roles)
        assert who.get(plan).status == reads, roles
        is_problem(who.post(f"{plan}/reject", {"reason": 7}), decides)
        is_problem(who.post(f"{plan}/approve", {"digest": "x"}), decides)
    assert everything(database) == before


# -- what is sent ----------------------------------------------------------------------------------------


def test_sql_and_odd_characters_in_every_parameter_change_nothing(
    client: Client, database: Database, houses: Houses
) -> None:
    """Each is turned away or taken for what it is, a text; none reaches the database as SQL."""
    before = everything(database)
    cursor = client.get("/reconciliations/stays/breaks", limit=1).json["next"]
    odd = (*INJECTIONS, "\x00", "a\x00b", "\ud800", "\x1b[2J", "‮", "", " ")
    for text in odd:
        part = quote(text, safe="", errors="surrogatepass")
        for path in (f"/reconciliations/{part}/runs", f"/reconciliations/{part}/breaks", f"/plans/{part}"):
            is_problem(client.get(path), 400, 404, 414, 422)
        for path in (f"/plans/{part}/approve", f"/plans/{part}/reject", f"/webhooks/{part}"):
            is_problem(client.post(path, {"reason": text.replace("\ud800", "?")}), 400, 404, 405, 414, 422)
        for name, parameters in PARAMETERS.items():
            for parameter in parameters:
                answer = client.get(f"/reconciliations/stays/{name}?{parameter}={part}")
                assert answer.status in (200, 400, 404, 414, 422), (text, parameter, answer)
                if answer.status != 200:
                    is_problem(answer, answer.status)
        for field in ("reason", "signature", "digest"):
            for path in ("approve", "reject"):
                body = json.dumps({field: text, "more": 1}).encode()  # with its half of a character spelled \ud800
                is_problem(
                    client.ask(
                        "POST",
                        f"/plans/{houses.north_plan}/{path}",
                        content=body,
                        headers={"Content-Type": "application/json"},
                    ),
                    422,
                )
    for forged in (
        ["breaks stays    ", "x", "y", ["z"]],
        ["breaks stays    ", "2026-01-01", "target", [1]],
        {"a": 1},
        ["breaks stays    "],
        ["runs stays", 1],
    ):
        sent = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
        is_problem(client.get("/reconciliations/stays/breaks", cursor=sent), 400)
    is_problem(client.get("/reconciliations/stays/runs", cursor=cursor), 400)
    first = client.get("/reconciliations/stays/decisions", limit=1).json["next"]
    head = json.loads(base64.urlsafe_b64decode(first + "=="))
    for key in (["one", None], ["1'; --", None], [None, None], ["99999999999999999999", None, None]):
        sent = base64.urlsafe_b64encode(json.dumps([*head[:2], *key]).encode()).decode().rstrip("=")
        is_problem(client.get("/reconciliations/stays/decisions", cursor=sent), 400)
    assert everything(database) == before


def test_bodies_that_are_too_large_or_no_json_are_turned_away(
    client: Client, database: Database, houses: Houses
) -> None:
    """Declared or in pieces, more than 1 MB is not read; whatever is no such document is 4xx."""
    before = everything(database)
    path, typed = f"/plans/{houses.north_plan}/reject", {"Content-Type": "application/json"}
    for content in (b" " * (LARGEST + 1), iter([b" " * 65_536] * 17)):
        answer = client.ask("POST", path, content=content, headers=typed)
        is_problem(answer, 413)
        assert "1,048,576 bytes" in answer.json["what"]
    is_problem(client.ask("POST", path, content=b"{}", headers=typed | {"Content-Length": "many"}), 400, 413)
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff",
        b"[" * 100_000,
        b'{"reason": NaN}',
        b'{"reason": null}',
        b'{"reason": ["x"]}',
        b'{"reason": ""}',
        b'{"reason": "\\ud800"}',
        b'{"reason": "a\\u0000b"}',
        b'{"reason": "' + b"a" * 3_000 + b'"}',
        b'{"reason": "x", "reason2": 1}',
    ):
        is_problem(client.ask("POST", path, content=body, headers=typed), 400, 422)
    for kind in ("text/plain", "application/xml", "multipart/form-data; boundary=x"):
        is_problem(client.ask("POST", path, content=b'{"reason": "x"}', headers={"Content-Type": kind}), 415, 422)
    is_problem(client.ask("POST", "/reconciliations"), 405)
    is_problem(client.ask("DELETE", path), 405)
    is_problem(client.get("/nowhere"), 404)
    is_problem(client.get("/docs"), 404)
    is_problem(client.get("/reconciliations?x=" + "a" * 9_000), 414)
    is_problem(client.ask("GET", "/healthz", {"X": "a" * 33_000}), 431)
    assert everything(database) == before


def test_what_nobody_foresaw_is_a_500_that_tells_its_id_and_nothing_else(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has where it happened, not the values; the database gone meanwhile is a 503."""

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("guest Ida Secret")

    monkeypatch.setattr("recon.service.reconciliations.pages.runs", broken)
    with caplog.at_level("INFO", "recon"):
        answer = client.ask("GET", "/reconciliations/stays/runs", {"X-Request-Id": "asked-7"})
    is_problem(answer, 500)
    assert answer.json["request"] == "asked-7"
    assert "Ida" not in answer.text + caplog.text
    assert "unforeseen ValueError" in caplog.text
    assert "test_service_security.py" in caplog.text


def test_every_request_has_an_id_and_one_line_in_the_log(
    client: Client, houses: Houses, caplog: pytest.LogCaptureFixture
) -> None:
    """Method, template, status, time and caller; neither tokens nor what was asked."""
    with caplog.at_level("INFO", "recon.access"):
        for given in ("trace-1.a:b", "x" * 65, "evil id", "id\x1b[2J"):
            client.ask("GET", f"/plans/{houses.north_plan}?secret=hunter2", {"X-Request-Id": given})
        client.ask("GET", "/nowhere/at/all")
        Client(client.http, {}).get("/reconciliations")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "recon.access"]
    assert [(line["path"], line["status"], line["caller"]) for line in lines] == [
        *[("/plans/{plan}", 200, "bob")] * 4, (None, 404, None), ("/reconciliations", 401, None),
    ]  # fmt: skip
    assert lines[0]["request"] == "trace-1.a:b"
    assert len({line["request"] for line in lines}) == 6
    assert all(len(line["request"]) == 16 for line in lines[1:])
    for kept in ("hunter2", "Bearer", client.headers["Authorization"][7:], houses.north_plan):
        assert kept not in caplog.text
    safe = client.get("/healthz").headers
    assert (safe["x-content-type-options"], safe["cache-control"]) == ("nosniff", "no-store")
    crossed = client.ask(
        "OPTIONS", "/reconciliations", {"Origin": "https://evil.invalid", "Access-Control-Request-Method": "GET"}
    )
    assert not [name for name in crossed.headers if name.startswith("access-control")]


def test_times_in_the_log_are_in_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """SYN-09: they stand beside documents whose times are."""
    record = logging.LogRecord("recon", logging.INFO, "", 1, "what happened", None, None)
    record.created, record.request = datetime(2026, 3, 2, 1, tzinfo=UTC).timestamp(), ""
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    time.tzset()
    try:
        assert logs.Lines("%(asctime)s %(request)s%(message)s").format(record) == "2026-03-02 01:00:00Z what happened"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_without_a_database_requests_are_told_to_come_again(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """SYN-09: where the database is stands in the log, and not in the answer."""
    (workspace.root / "reconciliations" / "stays.yaml").write_text(two_houses.SPEC, encoding="utf-8")
    with asked(application(workspace, Database("postgresql://ann@127.0.0.1:1/none"))) as client:
        for path in ("/reconciliations/stays/runs", "/plans/stays_1", "/readyz"):
            answer = client.get(path)
            is_problem(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
            assert "127.0.0.1" not in answer.text
            assert "127.0.0.1" in caplog.text
            caplog.clear()


def test_over_real_connections_headers_have_an_end_and_slow_ones_hold_up_nobody(
    database: Database, workspace: Workspace
) -> None:
    """More than 32 kB of headers is no request; who sends half a body keeps nobody else waiting."""
    with served(application(workspace, database)) as address:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=10) as slow:
            slow.sendall(
                b"POST /plans/x/reject HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nContent-Type: application/json\r\n\r\n{"
            )
            with socket.create_connection((place.hostname, place.port), timeout=10) as other:
                other.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert other.recv(65_536).startswith(b"HTTP/1.1 200")
            slow.sendall(b"}")
