"""Schema files as editors and shells write them."""

from pathlib import Path

import pytest

from tools.schema.zed import read_schema, split

TEXT = "/** a person, é */\ndefinition user {}\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_schema_file_is_read_with_and_without_a_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "schedules.zed"
    file.write_bytes(TEXT.encode(encoding))

    assert read_schema(file) == TEXT
    assert [block.name for block in split(read_schema(file)) if block.kind] == ["user"]


def test_a_schema_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "schedules.zed"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(UnicodeDecodeError):
        read_schema(file)
