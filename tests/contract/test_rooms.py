"""The rooms of the repository: which may import which, and how large and how named their modules are.

A room is a function, a layer, one of the folders of local/, or the whole of tools/, tests/, examples/ or bench/.
"""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("functions", "layers")
MAX_LINES = 350


def modules(*folders: str) -> Iterator[Path]:
    """Every Python file in these top-level folders, relative to the repository."""
    for folder in folders:
        yield from (path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*.py")))


def room(path: Path) -> str:
    """The room of a file, or of a folder in it."""
    depth = 1 if path.parts[0] in ("tools", "tests", "examples", "bench") else 2
    return "/".join(path.parts[:depth])


def packages() -> dict[str, str]:
    """The rooms of the packages that are imported by their own name, because a function or a layer holds them."""
    return {path.parts[2]: room(path) for path in modules(*PRODUCT) if len(path.parts) > 3}


PACKAGES = packages()


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """The full name of everything that a module imports, in parts. Imports inside functions and for types count too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = path.parts[: -node.level] if node.level else ()
            module = tuple(node.module.split(".")) if node.module else ()
            yield from ((*above, *module, alias.name) for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    """The other rooms that a module imports from."""
    found = set()
    for name in imported(path):
        if name[0] in PACKAGES:
            found.add(PACKAGES[name[0]])
        elif name[0] in ("functions", "layers", "local", "tools", "tests", "examples", "bench"):
            found.add(room(Path(*name)))
    return found - {room(path)}


def test_the_packages_of_functions_and_layers_are_known() -> None:
    assert PACKAGES.items() >= {("saga_core", "layers/core"), ("saga_spicedb", "layers/spicedb")}


def test_no_rooms_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules("functions", "layers", "local", "tools", "tests", "examples", "bench"):
        graph.setdefault(room(path), set()).update(rooms_imported(path))

    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the rooms

    assert order.index("layers/core") < order.index("local/stack") < order.index("local/aws") < order.index("tests")


def test_the_product_imports_nothing_from_local_tools_or_tests() -> None:
    wrong = {
        str(path): found
        for path in modules(*PRODUCT)
        if (found := {other for other in rooms_imported(path) if other.split("/")[0] not in PRODUCT})
    }

    assert wrong == {}


def test_an_example_can_be_copied_because_it_imports_nothing_of_this_repository() -> None:
    assert {str(path): found for path in modules("examples") if (found := rooms_imported(path))} == {}


def test_functions_and_layers_import_no_other_function() -> None:
    wrong = {
        str(path): found
        for path in modules(*PRODUCT)
        if (found := {other for other in rooms_imported(path) if other.startswith("functions")})
    }

    assert wrong == {}


def test_no_module_has_the_name_of_one_of_the_standard_library() -> None:
    paths = modules("functions", "layers", "local", "tools", "tests", "examples", "bench")

    wrong = {
        str(path)
        for path in paths
        for name in (*path.parent.parts, path.stem)
        if name in sys.stdlib_module_names and name != "__main__"
    }

    assert wrong == set()


def test_nothing_is_imported_from_a_conftest() -> None:
    wrong = {str(path) for path in modules("tests") for name in imported(path) if "conftest" in name}

    assert wrong == set()


def test_no_module_is_longer_than_350_lines() -> None:
    lengths = {
        str(path): len((ROOT / path).read_text().splitlines())
        for path in modules("functions", "layers", "local", "tools", "examples", "bench")
    }

    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}
