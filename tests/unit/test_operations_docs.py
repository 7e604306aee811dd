"""What docs/operations.md tells people to run is what the program takes, and its numbers are the program's."""

from __future__ import annotations

import re
import shlex
from configparser import ConfigParser
from typing import Any

import pytest
from typer.main import get_command

from recon.cli import app
from recon.service import beside, queue, supervised
from tests.support import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
UNITS = dict(re.findall(r"^`/etc/systemd/system/([\w.-]+)`\n\n```ini\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))
HARDENING = ("NoNewPrivileges", "ProtectSystem", "ProtectHome", "PrivateTmp", "RestrictAddressFamilies", "UMask")


def _takes(line: str) -> None:
    """That the command line has this command with these options, and can read their values."""
    known: Any = get_command(app)
    name, *rest = shlex.split(line)
    assert name in known.commands, name
    command = known.commands[name]
    command.make_context(name, [word if "=" not in word else word.split("=")[0] for word in rest])


@pytest.mark.parametrize("name", ["recon-serve.service", "recon-worker.service"])
def test_the_units_start_what_exists(name: str) -> None:
    """SYN-01: the worker on a real server; settings come from a file and never stand in a command line."""
    unit = ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] (systemd's names have capitals)
    unit.read_string(UNITS[name])
    service = unit["Service"]
    program, _, line = service["ExecStart"].partition(" ")
    assert program.endswith("/bin/recon")
    _takes(line)
    assert "postgres" not in line
    assert service["EnvironmentFile"] == "/etc/recon.env"
    assert service["Restart"] == "always"
    assert all(option in service for option in HARDENING)
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_every_command_that_is_named_exists_with_its_options() -> None:
    found = re.findall(r"(?:^|`)recon ((?!-)[a-z][^\n`]*)", TEXT, re.MULTILINE)
    assert {"serve --with-worker", "worker"} <= set(found)
    for line in found:
        _takes(line)


def test_the_numbers_are_the_program_s() -> None:
    for said, number in (
        (r"started again after (\d+) second", supervised.FIRST_PAUSE_SECONDS),
        (r"have (\d+) seconds to come to their end", supervised.GRACE_SECONDS),
        (r"ends the worker too, within (\d+) seconds", supervised.ALONE_SECONDS),
        (r"procrastinate_jobs` \| (\d+) days", queue.KEEP_HOURS / 24),
    ):
        assert [int(found) for found in re.findall(said, TEXT)] == [number], said
    assert supervised.LONGEST_PAUSE_SECONDS == beside.LONGEST_SECONDS == 60
