"""The issuer of the laptop's tokens. `make token` prints a token for the local HTTP API.

    python -m local.stack.issuer --subject alice --account acme

Its RSA key is generated once and kept in .local/issuer.json, which only this user can read. The gateway reads the
public key from the same file. Whoever can read the file can call the laptop's API as any user, and nothing else: no
deployed API trusts this issuer.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from local.stack.process import StartError

ISSUER = "https://issuer.local/"
AUDIENCE = "agent-schedules-local"
USER_ID_CLAIM = "sub"
SERVICE_ACCOUNT_ID_CLAIM = "service_account_id"
ACCOUNT_ID_CLAIM = "account_id"
ALGORITHM = "RS256"

KEY_FILE = Path(__file__).resolve().parents[2] / ".local" / "issuer.json"
_KEY_BITS = 2048
_LIFETIME_SECONDS = 3600


def signing_key(path: Path = KEY_FILE) -> RSAKey:
    """The issuer's key. It is generated if the file does not exist; processes that call this together get the same key.

    Raises:
        StartError: the file cannot be read or written, or does not contain a private key.
    """
    try:
        if not path.exists():
            _make(path)
        key = RSAKey.import_key(json.loads(path.read_bytes()))
    except OSError as error:
        raise StartError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, JoseError):
        key = None
    if key is None or not key.is_private:
        raise StartError(f"{path} does not contain a key; remove the file, and a new key is generated")
    return key


def public_keys(key: RSAKey) -> KeySet:
    """What the issuer publishes (its JWKS). It can check a token, but cannot sign one."""
    return KeySet([RSAKey.import_key(key.as_dict(private=False))])


def issue(
    key: RSAKey,
    *,
    subject: str = "",
    account: str = "",
    service_account: str = "",
    scope: str = "",
    lifetime: int = _LIFETIME_SECONDS,
) -> str:
    """A signed token. An empty text leaves its claim out.

    `scope` has spaces between several. `lifetime` is in seconds; a negative one has expired.
    """
    now = int(time.time())
    names = {USER_ID_CLAIM: subject, ACCOUNT_ID_CLAIM: account, SERVICE_ACCOUNT_ID_CLAIM: service_account}
    names["scope"] = scope
    claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + lifetime}
    claims |= {claim: name for claim, name in names.items() if name}
    return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])


def _make(path: Path) -> None:
    key = RSAKey.generate_key(_KEY_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    path.parent.mkdir(exist_ok=True)
    # Only the owner can read a temporary file. The link appears with its full content, or fails if another process was
    # first. A rename would replace a key that is in use.
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(key.as_dict(private=True), file)
        path.hardlink_to(name)
    except FileExistsError:
        return
    finally:
        Path(name).unlink()


def main() -> int:
    """Run the command line. Returns the exit code: 1, with one line that says why, if there is no token."""
    parser = argparse.ArgumentParser(
        prog="python -m local.stack.issuer", description="Print a token for the laptop's HTTP API."
    )
    parser.add_argument("--subject", default="", help=f"user id: the claim {USER_ID_CLAIM}")
    parser.add_argument("--account", default="", help=f"the claim {ACCOUNT_ID_CLAIM}")
    parser.add_argument("--service-account", default="", help=f"the claim {SERVICE_ACCOUNT_ID_CLAIM}")
    parser.add_argument("--scope", default="", help="the claim scope: scopes with spaces between them")
    parser.add_argument("--lifetime", type=int, default=_LIFETIME_SECONDS, help="seconds; default: %(default)s")
    arguments = parser.parse_args()
    # argparse does not require them: `make token` passes an empty text for a variable that is not set.
    if not arguments.subject and not arguments.service_account:
        print("token: a subject is required: make token SUBJECT=<user id>, or SERVICE_ACCOUNT=<id>", file=sys.stderr)
        return 1
    try:
        print(issue(signing_key(), **vars(arguments)))
    except StartError as error:
        print(f"token: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
