"""What the saga means, whatever engine it talks to: models, ids, errors, settings, deadlines, observability."""

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def check_build(folder: Path) -> None:
    """Raise ImportError if the packages in a layer's folder were built for another processor or another Python.

    Python itself would only say that a module is missing.
    """
    module = "_pydantic_core"
    built = {path.name for path in folder.glob(f"pydantic_core/{module}.*.so")}
    if built and not built & {f"{module}{suffix}" for suffix in EXTENSION_SUFFIXES}:
        raise ImportError(
            f"the layers hold {', '.join(sorted(built))}, which this function cannot load ({EXTENSION_SUFFIXES[0]}): "
            "build and deploy with the same Architecture"
        )


check_build(Path(__file__).parents[1])
