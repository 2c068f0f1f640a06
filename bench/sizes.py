"""What Lambda unzips for each function, from what `sam build` makes: of this tree and of an earlier commit."""

from bench import builds
from bench.builds import EARLIER
from local.stack.endpoints import Endpoints
from tools.figures.figure import Figure, exact


def measure(commit: str = EARLIER) -> list[Figure]:
    """Build both, and add up."""
    this, before = builds.this_tree(Endpoints()), builds.earlier(Endpoints(), commit)
    return [
        exact("sizes", verb, "MB", unit.size / 1e6, commit, before[verb].size / 1e6)
        if verb in before
        else exact("sizes", verb, "MB", unit.size / 1e6)
        for verb, unit in this.items()
    ]
