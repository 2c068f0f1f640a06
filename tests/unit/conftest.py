"""The handler of the HTTP API in this process."""

from collections.abc import Iterator

import pytest

from saga_api import listing, routes
from saga_api.settings import api_settings
from tests.support.functions import log_lines_to
from tests.support.in_process import AbsentEngine, InProcessApi, template


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessApi]:
    """The handler with the environment of template.yaml and without engines. Nothing is started."""
    for name, value in template().shared_environment().items():
        monkeypatch.setenv(name, value)
    api = InProcessApi()
    for module in (routes, listing):
        monkeypatch.setattr(module, "spicedb", lambda: AbsentEngine(api, "spicedb"))
    monkeypatch.setattr(routes, "temporal", lambda: AbsentEngine(api, "temporal"))
    monkeypatch.setattr(routes, "run", lambda *_: api.refuse("run"))
    api_settings.cache_clear()
    with log_lines_to(api.log):
        yield api
    api_settings.cache_clear()
