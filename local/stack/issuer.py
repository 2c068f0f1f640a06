"""The issuer of the laptop's tokens, and `make token`, which prints one for the local HTTP API.

    python -m local.stack.issuer --subject alice --account acme

Its RSA key is made once and stays in .local/issuer.json, for this user's eyes only; the gateway takes from the same
file what it checks signatures with. Whoever can read the file can call the laptop's API as anybody, and nothing else:
no deployed API trusts this issuer.
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
    """The issuer's key, made if it is not there yet. Several processes may ask at once and get the same.

    Raises:
        StartError: the file cannot be read or written, or holds no private key.
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
        raise StartError(f"{path} holds no key; remove it and a new one is made")
    return key


def public_keys(key: RSAKey) -> KeySet:
    """What the issuer publishes (its JWKS): who has it can check a token and make none."""
    return KeySet([RSAKey.import_key(key.as_dict(private=False))])


def issue(
    key: RSAKey, *, subject: str = "", account: str = "", service_account: str = "", lifetime: int = _LIFETIME_SECONDS
) -> str:
    """A signed token. An empty text leaves its claim out; `lifetime` is in seconds, and below 0 it has expired."""
    now = int(time.time())
    names = {USER_ID_CLAIM: subject, ACCOUNT_ID_CLAIM: account, SERVICE_ACCOUNT_ID_CLAIM: service_account}
    claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + lifetime}
    claims |= {claim: name for claim, name in names.items() if name}
    return jwt.encode({"alg": ALGORITHM, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])


def _make(path: Path) -> None:
    key = RSAKey.generate_key(_KEY_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    path.parent.mkdir(exist_ok=True)
    # A temporary file is readable by its owner alone. The link appears with its contents, or fails if another process
    # was first; renaming would put this key in the place of one that is in use.
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
    """The command line; 1, with one line that says why, when there is no token."""
    parser = argparse.ArgumentParser(
        prog="python -m local.stack.issuer", description="A token for the laptop's HTTP API."
    )
    parser.add_argument("--subject", default="", help=f"user id: the claim {USER_ID_CLAIM}")
    parser.add_argument("--account", default="", help=f"the claim {ACCOUNT_ID_CLAIM}")
    parser.add_argument("--service-account", default="", help=f"the claim {SERVICE_ACCOUNT_ID_CLAIM}")
    parser.add_argument("--lifetime", type=int, default=_LIFETIME_SECONDS, help="seconds; default: %(default)s")
    arguments = parser.parse_args()
    # Not required by argparse: `make token` passes on a variable that is not set as an empty text.
    if not arguments.subject and not arguments.service_account:
        print("token: for whom? make token SUBJECT=<user id>, or SERVICE_ACCOUNT=<id>", file=sys.stderr)
        return 1
    try:
        print(issue(signing_key(), **vars(arguments)))
    except StartError as error:
        print(f"token: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
