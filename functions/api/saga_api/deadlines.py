"""How long a request may still take, so that its response reaches the caller."""

import time
from dataclasses import replace

from saga_core.deadlines import Deadline, RemainingTime

# An HTTP API waits this long for a function, seconds. A cold start counts, and Lambda's own limit does not count it.
GATEWAY_SECONDS = 30.0
# Reserved for the way of the response through Lambda and API Gateway, and for clocks that differ, seconds.
GATEWAY_MARGIN = 1.0


def response_deadline(time_epoch: int, context: RemainingTime, per_call: float) -> Deadline:
    """The deadline of a request: that of the invocation, or of the gateway, whichever is the earlier one.

    ``time_epoch`` is when API Gateway had the request, in milliseconds. A request that is older than the gateway waits
    is not waited for any more, or its time is made up; then the invocation's deadline counts.
    """
    deadline = Deadline.of(context, per_call)
    left = time_epoch / 1000 + GATEWAY_SECONDS - time.time()
    if left <= 0:
        return deadline
    return replace(deadline, ends_at=min(deadline.ends_at, deadline.now() + left - GATEWAY_MARGIN))
