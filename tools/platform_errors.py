"""The errors that a Lambda task has by no fault of the function, as Step Functions names them.

Every Retry of every task has all of them: tests/contract compares the state machines with this list. The names are
those of Lambda's Invoke API, with `Lambda.` before them, and of Step Functions itself.
"""

from __future__ import annotations

# The caller of the function has given up, and the function may go on. Other errors of a task come when it has ended.
OUTLIVED = ("Lambda.ClientExecutionTimeoutException", "Lambda.SdkClientException", "Lambda.Unknown")

# A function in a VPC that was not called for weeks is Inactive. The first call makes it Pending, and fails; so do all
# others until it is Active again. Nothing has run.
INACTIVE = ("Lambda.ResourceNotReadyException", "Lambda.ResourceConflictException")
# How long that takes at most, seconds.
INACTIVE_SECONDS = 90

# The rest: a failure inside Lambda or of the network of its VPC, a throttle, a function that died or ran out of time.
_OTHER = (
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.TooManyRequestsException",
    "Lambda.EC2ThrottledException",
    "Lambda.EC2UnexpectedException",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.Timeout",
)

PLATFORM_ERRORS = (*OUTLIVED, *INACTIVE, *_OTHER)
