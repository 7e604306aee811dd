"""Real SSH keys for tests, and the workspace's list of whose they are."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from recon.backfill.signatures import NAMESPACE
from recon.workspace import Workspace

needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="no ssh-keygen on this machine (Debian: apt-get install openssh-client)"
)


@dataclass(frozen=True)
class Keys:
    """Keys by name in one folder, and the allowed_signers of one workspace."""

    folder: Path
    workspace: Workspace

    def make(self, name: str, passphrase: str = "") -> Path:
        path = self.folder / name
        self.folder.mkdir(exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, timeout=60)
        return path

    def public(self, name: str) -> str:
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def allow(self, *lines: str) -> None:
        """Write the list: `bob` stands for bob and the key of that name, `PRINCIPALS=KEY` for any others."""
        text = ""
        for line in lines:
            principals, _, key = line.rpartition("=") if "=" in line else (line, "", line)
            text += f"{principals} {self.public(key)}\n"
        self.workspace.signers.write_text(text, encoding="utf-8")

    def sign(self, name: str, text: bytes, namespace: str = NAMESPACE) -> Path:
        """A signature made elsewhere."""
        message = self.folder / f"{name}.message"
        message.write_bytes(text)
        out = message.with_name(f"{message.name}.sig")
        out.unlink(missing_ok=True)
        key = str(self.folder / name)
        subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", key, str(message)], check=True, timeout=60
        )
        return out


def policy(workspace: Workspace, *lines: str) -> Workspace:
    """The workspace with this sign-off policy, read anew."""
    (workspace.root / "recon.toml").write_text("\n".join(["[sign_off]", *lines]) + "\n", encoding="utf-8")
    return Workspace(workspace.root)
