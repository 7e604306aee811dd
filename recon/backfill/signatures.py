"""SSH signatures: made and verified by the program ssh-keygen, against the workspace's own list of signers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recon.errors import NotApproved, UsageError
from recon.workspace import SIGNERS_FILE, folded, same_person

NAMESPACE = "recon-sign-off"  # a signature made for another purpose (git, mail) signs no plan
SIGN_SECONDS = 300  # a person types a passphrase or touches a token meanwhile
VERIFY_SECONDS = 30  # no person is asked; it takes milliseconds
LONGEST_SIGNATURE = 20_000  # characters; one of a 16,384-bit RSA key has 6,000

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MEANS_SOMETHING = ',*?!"'  # in a list of principals; a name with one of these cannot be listed
_FINGERPRINT = re.compile(r"^Good .* key (SHA256:\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Key:
    """A public key, as it stands in a signature."""

    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def kind(self) -> str:
        """Such as ssh-ed25519."""
        return _string(self.blob, 0)[0].decode("ascii", "replace")

    @property
    def line(self) -> str:
        """As it stands in a .pub file."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"


@dataclass(frozen=True)
class Listed:
    """One line of allowed_signers: whose (patterns of names), and all words after that."""

    principals: tuple[str, ...]
    words: tuple[bytes, ...]

    def names(self, name: str) -> bool:
        """Whether this line is about a person, by name or by pattern."""
        found = False
        for pattern in self.principals:
            wanted = folded(pattern.removeprefix("!"))
            expression = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in wanted)
            if re.fullmatch(expression, folded(name), re.DOTALL):
                if pattern.startswith("!"):
                    return False
                found = True
        return found


@dataclass(frozen=True)
class Signers:
    """The workspace's allowed_signers; ssh-keygen reads the file itself whenever it verifies."""

    path: Path
    lines: tuple[Listed, ...]

    @classmethod
    def read(cls, path: Path) -> Signers:
        """The list as it is now; a file that is not there lists nobody."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls(path, ())
        except (OSError, UnicodeDecodeError) as error:
            raise NotApproved(f"{path} cannot be read.", why=f"{error}.", todo="Correct the file.") from error
        return cls(path, tuple(filter(None, map(_listed, text.split("\n")))))

    def lists(self, key: Key, name: str) -> bool:
        """Whether any line, valid today or not, says that this key is this person's."""
        return any(key.blob in line.words and line.names(name) for line in self.lines)

    def verify(self, text: bytes, signature: str, name: str, at: datetime | None = None) -> Key:
        """The key that signed exactly this text, where it is listed for this person and ssh-keygen finds it valid.

        Args:
            text: the bytes that were signed.
            signature: armoured, as ssh-keygen writes it.
            name: who signed.
            at: the time at which the key had to be valid; None: now.

        Raises:
            NotApproved: it is not; says why.
        """
        strange = sorted({sign for sign in name if sign in _MEANS_SOMETHING})
        if strange:
            raise NotApproved(
                f"{name} cannot be listed in {SIGNERS_FILE}.",
                why=f"There {' '.join(strange)} means something else.",
                todo="Set RECON_USER to a name without it.",
            )
        key = key_of(signature)
        # The person's name may be spelled otherwise there; ssh-keygen compares letter by letter.
        spelled = {part for line in self.lines for part in line.principals if same_person(part, name)}
        said = ""
        for principal in sorted({name} | spelled):
            ended = self._verify(text, signature, principal, at)
            shown = _FINGERPRINT.search(ended.stdout.decode("utf-8", "replace"))
            if ended.returncode == 0 and shown and shown.group(1) == key.fingerprint:
                return key
            said = _words(ended.stderr) or said
        if not self.lists(key, name):
            quoted = f'"{name}"' if " " in name else name
            raise NotApproved(
                f"The key {key.fingerprint} is not listed for {name}.",
                why=f"Only keys of the workspace's {SIGNERS_FILE} count." + ("" if self.lines else " It lists nobody."),
                todo=f"If it is {name}'s, add the line to {self.path}: {quoted} {key.line}",
            )
        raise NotApproved(
            f"The signature by {name} does not hold.",
            why=said,
            todo="Sign the very bytes of plan.json, with a valid key.",
        )

    def _verify(
        self, text: bytes, signature: str, principal: str, at: datetime | None
    ) -> subprocess.CompletedProcess[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "signature"
            kept.write_text(signature, encoding="utf-8")
            # Local time without a zone, as times in the list are read.
            when = ["-O", f"verify-time={at.astimezone():%Y%m%d%H%M%S}"] if at else []
            arguments = ["-Y", "verify", *when, "-n", NAMESPACE, "-f", str(self.path), "-I", principal, "-s", str(kept)]
            return _run(arguments, text)


def sign(text: bytes, key: Path, *, ask: bool = True) -> str:
    """Sign a text with a private key, or with a public one whose private half an agent holds.

    ssh-keygen itself asks for a passphrase or a touch, in the terminal.

    Args:
        text: what is signed.
        key: the file.
        ask: whether there is a person at this process's terminal; else nobody is asked anything.

    Raises:
        UsageError: the key cannot sign.
        NotApproved: there is no ssh-keygen.
    """
    with tempfile.TemporaryDirectory() as folder:
        # As a file: standard input stays free for the person.
        message = Path(folder) / "message"
        message.write_bytes(text)
        arguments = ["-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key.absolute()), str(message)]
        ended = _run(arguments, None, ask=ask)
        signature = message.with_name("message.sig")
        if ended.returncode != 0 or not signature.is_file():
            raise UsageError(
                f"The key {key} could not sign.",
                why=_words(ended.stderr or b""),
                todo="Name a private SSH key, or the .pub file of a key that your agent holds."
                + ("" if ask else " Nobody can be asked for a passphrase here: load the key into your agent first."),
            )
        return signature.read_text(encoding="ascii")


def read(path: Path) -> str:
    """A signature that was made elsewhere. Raises UsageError."""
    try:
        text = path.read_bytes().decode("ascii")
    except OSError as error:
        raise UsageError(f"{path} cannot be read.", why=f"{error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} holds no SSH signature.") from error
    key_of(text)
    return text


def key_of(signature: str) -> Key:
    """The public key within an armoured signature; says nothing about whether the signature holds.

    Raises:
        NotApproved: this is no SSH signature, or one by a certificate.
    """
    armoured = signature.strip()
    try:
        if len(armoured) > LONGEST_SIGNATURE or not armoured.startswith(_BEGIN) or not armoured.endswith(_END):
            raise ValueError
        raw = base64.b64decode("".join(armoured[len(_BEGIN) : -len(_END)].split()), validate=True)
        if raw[:6] != b"SSHSIG":
            raise ValueError
        key = Key(_string(raw, 10)[0])  # after the magic word and a version of four bytes
        kind = key.kind
    except (ValueError, binascii.Error) as error:
        raise NotApproved(
            "This is no SSH signature.",
            why=f"It is not what stands between {_BEGIN} and its end.",
            todo="Give the .sig file that `ssh-keygen -Y sign` wrote.",
        ) from error
    if "-cert-" in kind:
        raise NotApproved(
            "The signature is by an SSH certificate.",
            why="Whose key it is would be for its authority to say, and one key could have several names.",
            todo=f"Sign with a key that {SIGNERS_FILE} lists.",
        )
    return key


def _string(data: bytes, start: int) -> tuple[bytes, int]:
    """A string of SSH's wire format, and where it ends. Raises ValueError."""
    end = start + 4 + int.from_bytes(data[start : start + 4])
    if len(data) < start + 4 or len(data) < end:
        raise ValueError
    return data[start + 4 : end], end


def _listed(line: str) -> Listed | None:
    """A line as ssh-keygen takes it apart; None: it lists nobody."""
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    quoted = re.match(r'"([^"]*)"\s*', text)
    if quoted:
        first, rest = quoted.group(1), text[quoted.end() :]
    else:
        first, _, rest = text.replace("\t", " ").partition(" ")
    return Listed(tuple(first.split(",")), tuple(filter(None, map(_decoded, rest.split()))))


def _decoded(word: str) -> bytes:
    try:
        return base64.b64decode(word, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _words(stderr: bytes) -> str:
    """What ssh-keygen complained of, in one line."""
    return " ".join(stderr.decode("utf-8", "replace").split())[:500]


def _run(arguments: Sequence[str], text: bytes | None, *, ask: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run ssh-keygen on a text; without one it may ask a person, in the terminal. Raises NotApproved."""
    asking = text is None and ask
    seconds = SIGN_SECONDS if asking else VERIFY_SECONDS
    terminal = asking and sys.stdin is not None and sys.stdin.isatty() and os.isatty(2)
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=text,
            stdin=subprocess.DEVNULL if text is None and not terminal else None,
            # Without a terminal of its own it finds none to ask in, and without this word no window either.
            start_new_session=not asking,
            env=None if asking else {**os.environ, "SSH_ASKPASS_REQUIRE": "never"},
            stdout=subprocess.PIPE,
            stderr=None if terminal else subprocess.PIPE,
            check=False,
            timeout=seconds,
        )
    except OSError as error:
        raise NotApproved(
            "The program ssh-keygen cannot be run.",
            why=f"Signatures are made and verified by it ({error.strerror}).",
            todo="Install OpenSSH's client (Debian: apt-get install openssh-client).",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NotApproved(f"ssh-keygen did not answer within {seconds} s.", todo="Try again.") from error
