"""The access log of an HTTP API: the format that template.yaml gives it, filled in for each request."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from werkzeug.wrappers import Response

from local.aws.intrinsics import TemplateError
from local.aws.payload import Request
from local.aws.resources import HttpApi

# What a format may contain, as `$context.<name>`.
_KNOWN = {
    "authorizer.error",
    "httpMethod",
    "identity.sourceIp",
    "integration.error",
    "integration.requestId",
    "requestId",
    "requestTime",
    "responseLatency",
    "responseLength",
    "routeKey",
    "status",
}
_VARIABLE = re.compile(r"\$context\.([A-Za-z]+(?:\.[A-Za-z]+)*)")


class AccessLog:
    """Writes one line for each request, or nothing when the API has no log format."""

    def __init__(self, api: HttpApi, write: Callable[[str], None]) -> None:
        """Raises TemplateError when the format contains a variable that the laptop does not know."""
        for name in _VARIABLE.findall(api.access_log_format):
            if name not in _KNOWN:
                raise TemplateError(f"{api.logical_id}: AccessLogSettings: $context.{name} is not known on the laptop")
        self._format, self._write = api.access_log_format, write

    def add(self, request: Request, response: Response, record: Mapping[str, str]) -> None:
        """Write the line of a request. `record` holds what is known besides; a value that is missing becomes `-`."""
        values = {
            **record,
            "httpMethod": request.method,
            "identity.sourceIp": str(request.remote_addr),
            "requestId": request.id,
            "requestTime": request.time_text,
            "responseLatency": str(round((datetime.now(UTC) - request.time).total_seconds() * 1000)),
            "responseLength": str(response.calculate_content_length()),
            "status": str(response.status_code),
        }
        if self._format:
            # The format may put a value between quotes, so a value is escaped as in JSON.
            self._write(_VARIABLE.sub(lambda name: json.dumps(values.get(name[1], "-"))[1:-1], self._format))
