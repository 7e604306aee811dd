"""Bearer tokens: who asks, in which roles and for which organisations, as a signed token (JWT) says.

One key is set, and it fixes the ways to sign that count: a shared secret HS256 alone, a public key those of its kind.
What a token's own header asks for never widens that, so neither `none` nor a secret made of a public key gets through.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID

from recon.backfill.voices import SHIPS
from recon.errors import NoKey, TokenRefused, UsageError
from recon.names import storable
from recon.workspace import Workspace, person, same_person

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

SECRET, PUBLIC_KEY = "RECON_JWT_SECRET", "RECON_JWT_PUBLIC_KEY"
AUDIENCE, ISSUER = "RECON_JWT_AUDIENCE", "RECON_JWT_ISSUER"
USUAL_AUDIENCE = "recon"
SECRET_BYTES = 32  # at least: as many as HS256 has (RFC 7518, 3.2)
RSA_BITS = 2048  # at least (RFC 7518, 3.3)
LEEWAY_SECONDS = 10  # by which two clocks may differ
LONGEST = 8_192  # characters of a token
EVERY = "*"  # in `organizations`: all of them

Role = Literal["viewer", "operator", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
# Whoever may act may look at what it is about.
GRANTED: Mapping[Role, frozenset[Role]] = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "reviewer": frozenset({"viewer", "reviewer"}),
    "admin": frozenset(ROLES),
}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True)
class Caller:
    """Who asks. `scopes`: the organisations that he may see; None: all."""

    name: str
    roles: frozenset[Role]
    scopes: frozenset[str] | None

    def may(self, role: Role) -> bool:
        """Whether one of the caller's roles grants this one."""
        return any(role in GRANTED[own] for own in self.roles)

    def sees(self, scope: str | None) -> bool:
        """Whether the caller may see what is of this organisation; None: what is of all of them together."""
        return self.scopes is None or (scope is not None and spelled(scope) in self.scopes)

    def workspace(self, workspace: Workspace) -> Workspace:
        """The workspace in which this caller is the acting person. Private columns stay veiled, whoever it is."""
        return workspace.with_variables({"RECON_USER": self.name, "RECON_SHOW_PRIVATE": "0"})


@dataclass(frozen=True)
class Trust:
    """By what tokens are checked."""

    key: Any
    algorithms: tuple[str, ...]
    audience: str
    issuer: str | None


def trust(variables: Mapping[str, str]) -> Trust:
    """What the settings say of tokens.

    Args:
        variables: RECON_JWT_SECRET (HS256, 32 bytes at least) or RECON_JWT_PUBLIC_KEY (PEM: RSA, EC or Ed25519), and
            RECON_JWT_AUDIENCE and RECON_JWT_ISSUER.

    Raises:
        NoKey: neither is set.
        UsageError: both are, or one is no key that holds.
    """
    secret, public = variables.get(SECRET, ""), variables.get(PUBLIC_KEY, "")
    audience, issuer = variables.get(AUDIENCE) or USUAL_AUDIENCE, variables.get(ISSUER) or None
    if secret and public:
        raise UsageError(
            f"{SECRET} and {PUBLIC_KEY} are both set.", why="A token must be signed in one way only.",
            todo="Keep one of them.",
        )  # fmt: skip
    if secret:
        return Trust(_secret(secret), ("HS256",), audience, issuer)
    if public:
        return Trust(*_public(public), audience, issuer)
    raise NoKey(todo=f"Set {SECRET} or {PUBLIC_KEY}; docs/service.md says how.")


def _secret(text: str) -> bytes:
    secret = text.encode("utf-8", "surrogateescape")
    if len(secret) < SECRET_BYTES:
        raise UsageError(
            f"{SECRET} has {len(secret)} bytes.",
            why=f"A secret of fewer than {SECRET_BYTES} can be guessed, and with it every token made.",
            todo="Make one: `openssl rand -base64 48`.",
        )
    return secret


def _public(text: str) -> tuple[PublicKeyTypes, tuple[str, ...]]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:  # an .env file may hold the PEM on one line
        key = load_pem_public_key(text.replace("\\n", "\n").encode())
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            f"{PUBLIC_KEY} is no public key in PEM.", why="It begins with -----BEGIN PUBLIC KEY-----.",
            todo="Give the public key alone; the private one stays with whoever makes tokens.",
        ) from None  # fmt: skip
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS:
        return key, ("RS256",)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key, (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key, ("EdDSA",)
    raise UsageError(
        f"{PUBLIC_KEY} is of a kind that does not count.",
        why=f"Keys are RSA of {RSA_BITS} bits or more, EC of the curves P-256, P-384 and P-521, or Ed25519.",
        todo="Make tokens with such a key.",
    )


def read(token: str, trusted: Trust) -> Caller:
    """Who holds a token.

    Args:
        token: as it came, without the word Bearer.
        trusted: by what it is checked.

    Raises:
        TokenRefused: it is none, or not of this issuer, for this audience, of this time; the token itself is not told.
    """
    import jwt

    if len(token) > LONGEST:
        raise TokenRefused(why=f"It has more than {LONGEST:,} characters.")
    try:
        claims = jwt.decode(
            token, trusted.key, algorithms=list(trusted.algorithms), audience=trusted.audience, issuer=trusted.issuer,
            leeway=LEEWAY_SECONDS, options={"require": ["sub", "exp", "aud"]},
        )  # fmt: skip
    except jwt.ExpiredSignatureError:
        raise TokenRefused(why="It has expired.", todo="Ask for a new one.") from None
    except jwt.ImmatureSignatureError:
        raise TokenRefused(why="It is not valid yet.") from None
    except jwt.InvalidAudienceError:
        raise TokenRefused(why="It is meant for another audience.") from None
    except jwt.InvalidIssuerError:
        raise TokenRefused(why="Another issuer made it.") from None
    except jwt.MissingRequiredClaimError as error:
        raise TokenRefused(why=f"It has no {error.claim}.") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise TokenRefused(why="It is no token that the key of this service signed.") from None
    return Caller(_name(claims["sub"]), _roles(claims.get("roles", [])), _scopes(claims.get("organizations", [])))


def _name(sub: object) -> str:
    """The person, in one spelling."""
    try:
        name = person(" ".join(unicodedata.normalize("NFKC", str(sub)).split()))
    except UsageError:
        name = SHIPS
    if same_person(name, SHIPS):  # who gives what ships with recon is nobody
        raise TokenRefused(why="Its sub is no name of a person.")
    return name


def _roles(given: object) -> frozenset[Role]:
    """The roles that we know; a token may have others, for other services."""
    if not isinstance(given, list):
        raise TokenRefused(why="Its roles are no list.")
    return frozenset(role for role in ROLES if role in given)


def _scopes(given: object) -> frozenset[str] | None:
    if given == EVERY:
        return None
    if not isinstance(given, list) or not all(isinstance(item, str) and storable(item) for item in given):
        raise TokenRefused(why=f'Its organizations are neither a list of texts nor "{EVERY}".')
    return None if EVERY in given else frozenset(spelled(item) for item in given)


def spelled(scope: str) -> str:
    """An organisation's id in one spelling: a UUID as the database writes it, any other as it is.

    >>> spelled("6F9619FF-8B86-D011-B42D-00C04FC964FF"), spelled("Coast")
    ('6f9619ff-8b86-d011-b42d-00c04fc964ff', 'Coast')
    """
    try:
        return str(UUID(scope))
    except ValueError:
        return scope


def make(
    variables: Mapping[str, str], name: str, roles: list[str], organizations: list[str], hours: float, now: datetime
) -> str:
    """A token signed with RECON_JWT_SECRET: for first steps and tests; an identity provider makes the others.

    Args:
        name: the person, the token's `sub`.
        roles: of ROLES.
        organizations: ids, or "*".
        hours: how long it is valid.
        now: with a zone.

    Raises:
        UsageError: there is no such role, no time, or the secret does not hold.
        NoKey: no secret is set.
    """
    import jwt

    trusted = trust(variables)
    if "HS256" not in trusted.algorithms:
        raise UsageError(
            f"A token is made with {SECRET} only.", why=f"{PUBLIC_KEY} checks what others sign.",
            todo="Ask whoever holds the private key.",
        )  # fmt: skip
    if unknown := [role for role in roles if role not in ROLES]:
        raise UsageError(f"There is no role {unknown[0]!r}.", todo=f"There are: {', '.join(ROLES)}.")
    claims: dict[str, Any] = {
        "sub": person(name), "aud": trusted.audience, "iat": now, "exp": now.astimezone(UTC) + timedelta(hours=hours),
        "roles": roles, "organizations": EVERY if EVERY in organizations else organizations,
    }  # fmt: skip
    if trusted.issuer:
        claims["iss"] = trusted.issuer
    return jwt.encode(claims, trusted.key, algorithm="HS256")
