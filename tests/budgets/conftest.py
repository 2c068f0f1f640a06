"""What `sam build` makes of this tree, once for all of these tests."""

import pytest

from tests.support import sam


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> sam.Built:
    """The output of `sam build`."""
    return sam.build(tmp_path_factory.mktemp("built"))
