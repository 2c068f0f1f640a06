"""The handler of the HTTP API in this process."""

from collections.abc import Iterator

import pytest

from saga_api import listing, routes
from saga_api.settings import api_settings
from saga_core.observability import logger
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
    before = logger.registered_handler.setStream(api.log)  # type: ignore[attr-defined] # it is a StreamHandler
    yield api
    logger.registered_handler.setStream(before)  # type: ignore[attr-defined] # as above
    api_settings.cache_clear()
