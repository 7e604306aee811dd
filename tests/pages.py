"""The pages of the docs as programs: what a reader types, in the order of the page, and what the page says comes of it.

A `bash` block is typed into a real shell. The `text` or `json` block right after it is what the commands say; in it a line `…` stands
for any lines, `…` in a line for any words, and ids, times, hashes, folders and durations may be others. A block with a title is a file. `PLAN` is the newest
plan. A command ends with 0, unless the comment behind it says `exit code N`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests import forked
from tests.support import COMMAND_SECONDS, Ended

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,}) ?(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=ticks)$",
    re.DOTALL | re.MULTILINE,
)
ANY = "…"
# Why a line of a page is not typed.
NOT_RUN = {
    "recon worker": "it goes on until it is ended; `recon worker --once`, on the same page, does the same once",
}
WIDTH = 100  # columns of the terminal that the pages show

# What is another one each time; a whole line is compared after these took its place.
VARYING = (
    (r"\b[a-z]\w*_20\d{6}_\d{6}_[0-9a-f]{4}\b", "PLAN"),
    (r"\b20\d{6}_\d{6}_[0-9a-f]{4}\b", "RUN"),
    (r"\b20\d\d-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)?", "TIME"),
    (r"\bSHA256:[\w+/]{43}", "FINGERPRINT"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID"),
    (r"\b\d+(?:\.\d+)? ?(?:m?s|µs)\b", "SECONDS"),
    (r"\w{3} \d\d? \w{3} 20\d\d \d\d:\d\d \w+", "TIME"),
    (r"\b20\d{6}T\d{6}Z\b", "TIME"),
    (r"(?<![\w.])/(?:[\w.-]+/)+", "FOLDER/"),
    (r"PostgreSQL \d\d\.\d+", "PostgreSQL"),
    (r"to \w+ \(PostgreSQL", "to recon (PostgreSQL"),  # the database's name
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str
    line: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, indented ones too.

    >>> [(block.language, block.title, block.text) for block in blocks('a\\n\\n  ```yaml title="x.yaml"\\n  a: 1\\n  ```\\n')]
    [('yaml', 'x.yaml', 'a: 1\\n')]
    """
    return [
        Block(
            found["language"],
            found["title"] or "",
            textwrap.dedent(found["text"]),
            text[: found.start()].count("\n") + 1,
        )
        for found in FENCE.finditer(text)
    ]


def plain(text: str) -> list[str]:
    """The lines of an output, without what differs from run to run, or by the width of a column."""
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    lines = (re.sub(r"[ ─━]{2,}|\s+", " ", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _is(said: str, shown: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, shown.split(ANY))), said) is not None


def holds(said: str, shown: str) -> bool:
    """Whether what was said holds what a page shows, in one piece but for `…`.

    >>> holds("a\\nb 12 c", "a\\nb … c"), holds("a\\nb 12 d", "a\\nb … c")
    (True, False)
    >>> holds("a\\nb  2026-01-02 03:04\\nc", "b 2027-01-01 00:00\\nc"), holds("a\\nb\\nc\\nd", "a\\n…\\nd"), holds("a\\nb\\nc", "a\\nc")
    (True, True, False)
    """
    rest = plain(said)
    for piece in re.split(rf"^\s*{ANY}\s*$", shown, flags=re.MULTILINE):
        wanted = plain(piece)
        places = range(len(rest) - len(wanted) + 1)
        found = next((at for at in places if all(map(_is, rest[at : at + len(wanted)], wanted))), None)
        if found is None:
            return False
        rest = rest[found + len(wanted) :]
    return True


@dataclass
class Reader:
    """Somebody who follows a page: a folder, a shell, and the environment that `export` and `cd` leave behind."""

    home: Path
    environment: dict[str, str]
    stand_ins: Mapping[str, str]  # what a page shows: what stands for it here
    called: list[tuple[list[str], Ended]] = field(default_factory=list[tuple[list[str], Ended]])
    said: str = ""  # by the latest block

    def __post_init__(self) -> None:
        self.here = self.home

    def write(self, block: Block) -> None:
        path = self.here / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def type(self, block: Block) -> None:
        """Type a block into a shell.

        Raises:
            AssertionError: a command ended in another way than the page says.
        """
        self.called.clear()
        after, failed = self.home / ".after", self.home / ".failed"
        failed.unlink(missing_ok=True)
        typed = [line for line in block.text.splitlines() if line not in NOT_RUN]
        filled = re.sub(r"\bPLAN\b", "$(newest-plan)", "\n".join(typed))
        for shown, real in self.stand_ins.items():
            filled = filled.replace(shown, real)
        script = f"{_PIP}\ntrap 'echo \"$BASH_COMMAND\" >> {failed}' ERR\n{filled}\ntrap - ERR\n{{ pwd; env -0; }} > {after}\n"
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.here, env=self.environment, text=True, timeout=COMMAND_SECONDS, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.said = ended.stdout
        assert after.exists(), f"the shell ended early:\n{ended.stdout}"
        where, _, variables = after.read_text().partition("\n")
        after.unlink()
        self.here = Path(where)
        kept = dict(pair.split("=", 1) for pair in variables.split("\0") if "=" in pair)
        self.environment = {name: value for name, value in kept.items() if name not in ("_", "SHLVL", "OLDPWD")}
        wrong = failed.read_text().splitlines() if failed.exists() else []
        others = [command for command in wrong if not re.search(r"\brecon\b", command)]
        assert not others, f"{others} failed:\n{ended.stdout}"
        self._codes(typed)

    def _codes(self, typed: list[str]) -> None:
        lines = [line for line in typed if re.match(r"(?:\w+=\S+ )*recon |.*&& recon ", line)]
        assert len(lines) == len(self.called), f"{len(self.called)} commands ran, the page has {lines}"
        for line, (_, ended) in zip(lines, self.called, strict=True):
            said = re.search(r"#.*exit code (\d)", line)
            wanted = int(said.group(1)) if said else 0
            assert ended.code == wanted, f"{line} ended with {ended.code}:\n{ended.out}\n{ended.err}"


_CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    asked.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    answer = json.loads(asked.makefile("rb").read())
sys.stdout.write(answer["out"])
sys.stdout.flush()
sys.stderr.write(answer["err"])
raise SystemExit(answer["code"])
"""


# recon is installed already, as the test of the wheel does it for real. A module of the page's own is put where Python finds it.
_PIP = """pip() {
  case "$2" in ./*)
    name=$(basename "$2"); into="$HOME/site/$name-1.dist-info"
    mkdir -p "$into" && cp "$2"/*.py "$HOME/site" && printf 'Metadata-Version: 2.1\\nName: %s\\nVersion: 1\\n' "$name" > "$into/METADATA"
    sed -nE '/entry-points/,/^$/s/.*entry-points."?([a-z.]+)"?\\]/[\\1]/p; s/^([a-z]+) = "([a-z]+:[a-z]+)"/\\1 = \\2/p' "$2/pyproject.toml" > "$into/entry_points.txt"
    export PYTHONPATH="$HOME/site" ;;
  esac
}"""

# By the time in its name; the folder itself changes with each signature.
_NEWEST = r"""#!/bin/sh
ls sql/backfills | sed -nE 's/(.*)_(20[0-9]{6}_[0-9]{6}_[0-9a-f]{4})$/\2 \1_\2/p' | sort | tail -n 1 | cut -d' ' -f2
"""


@contextmanager
def reader(home: Path, url: str, stand_ins: Mapping[str, str]) -> Iterator[Reader]:
    """Somebody with a home, a shell in which `recon` is a program, and a database of their own.

    Args:
        home: a folder that is not there yet.
        url: the database.
        stand_ins: what pages show, such as a host's name, and what is typed in its place.
    """
    programs, address = home / ".programs", str(home / ".s")
    programs.mkdir(parents=True)
    client = _CLIENT.format(python=sys.executable, address=address)
    for name, text in (("recon", client), ("newest-plan", _NEWEST)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    environment = {
        "HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "LANG": "C.UTF-8", "LOGNAME": "ann", "COLUMNS": str(WIDTH),
        "RECON_DATABASE_URL": url, "RECON_ENVIRONMENT": "development",
    }  # fmt: skip
    someone = Reader(home, environment, stand_ins)

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            arguments, folder, given = json.loads(self.rfile.readline())
            ended = Ended(*forked.run(arguments, given, Path(folder), COMMAND_SECONDS))
            someone.called.append((arguments, ended))
            answer = {"code": ended.code, "out": ended.out, "err": ended.err}
            self.wfile.write(json.dumps(answer).encode())

    with socketserver.UnixStreamServer(address, Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield someone
        finally:
            server.shutdown()
            thread.join()
            shutil.rmtree(programs)
