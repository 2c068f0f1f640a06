"""GetSecretValue of Secrets Manager, with botocore's signature, endpoints and connections, and without its clients.

A client of boto3's is made from descriptions of the whole service, which takes several times as long as the call.
"""

import json
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import botocore
from botocore.auth import SigV4Auth
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError
from botocore.httpsession import URLLib3Session
from botocore.loaders import Loader
from botocore.utils import ensure_boolean, get_environ_proxies

_SERVICE, _OPERATION = "secretsmanager", "GetSecretValue"
# The least status that botocore's clients, too, take for a failure.
_FAILURE = 301


class _Keys(NamedTuple):
    """Credentials, as botocore's signature wants them."""

    access_key: str
    secret_key: str
    token: str | None


class SecretsManager:
    """Secrets Manager, as boto3 finds it.

    Credentials and region are those of the environment's variables, which Lambda and `sam local` set. Where there are
    none, botocore finds them: a profile in the files of AWS's own tools, a sign-in, the role of a container or an
    instance. Endpoint, FIPS, dual stack, certificates and proxies are read from the variables alone.
    """

    def __init__(self, connect_seconds: float, read_seconds: float) -> None:
        """One attempt for each call, with these limits for the connection and for each read.

        Raises:
            botocore.exceptions.BotoCoreError: there is no region, or it has no endpoint.
        """
        self._region = os.environ.get("AWS_DEFAULT_REGION") or self._session.get_config_variable("region")
        if not self._region:
            raise NoRegionError
        self._url = _endpoint(self._region)
        connections: Any = URLLib3Session  # its stubs know neither a file of authorities nor two limits
        self._http = connections(
            verify=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE") or True,
            proxies=get_environ_proxies(self._url),
            timeout=(connect_seconds, read_seconds),
        )

    def get_secret_value(self, reference: str) -> Mapping[str, Any]:
        """The response; without any key where it is no JSON object.

        Raises:
            botocore.exceptions.ClientError: the service refuses or fails.
            botocore.exceptions.BotoCoreError: the service is not reached, or there are no credentials.
        """
        asked: dict[str, Any] = {
            "method": "POST",
            "url_path": "/",
            "query_string": "",
            "headers": {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{_SERVICE}.{_OPERATION}"},
            "body": json.dumps({"SecretId": reference}),
        }
        prepare_request_dict(asked, self._url, user_agent=f"Botocore/{botocore.__version__}")
        request = create_request_object(asked)
        SigV4Auth(self._credentials(), _SERVICE, self._region).add_auth(request)
        response = self._http.send(request.prepare())
        if response.status_code >= _FAILURE:
            raise _failure(response)
        try:
            found = json.loads(response.content)
        except ValueError:
            found = None
        return found if isinstance(found, dict) else {}

    def _credentials(self) -> Any:
        variables = os.environ
        access_key, secret_key = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
        if access_key and secret_key:
            token = variables.get("AWS_SECURITY_TOKEN") or variables.get("AWS_SESSION_TOKEN")
            return _Keys(access_key, secret_key, token)
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    @cached_property
    def _session(self) -> Any:
        # Imported here because it takes long, and a function in Lambda does not need it.
        from botocore.session import Session

        return Session()


def _endpoint(region: str) -> str:
    variables = os.environ
    if not ensure_boolean(variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "")):
        given = variables.get("AWS_ENDPOINT_URL_SECRETS_MANAGER") or variables.get("AWS_ENDPOINT_URL")
        if given:
            return given
    loader = Loader()
    rules = EndpointProvider(loader.load_service_model(_SERVICE, "endpoint-rule-set-1"), loader.load_data("partitions"))
    found = rules.resolve_endpoint(
        Region=region,
        UseFIPS=ensure_boolean(variables.get("AWS_USE_FIPS_ENDPOINT", "")),
        UseDualStack=ensure_boolean(variables.get("AWS_USE_DUALSTACK_ENDPOINT", "")),
    )
    return str(found.url)


def _failure(response: Any) -> ClientError:
    from botocore.parsers import create_parser

    raw = {"status_code": response.status_code, "headers": response.headers, "body": response.content}
    parsed: Any = create_parser("json").parse(raw, None)  # type: ignore[arg-type] # a failure has no shape
    return ClientError(parsed, _OPERATION)
