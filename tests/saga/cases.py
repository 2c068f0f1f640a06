"""The cases of the fault matrix: every call of every expected run under every fault, and a stop in every state."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tests.saga.expected_runs import EXPECTED_RUNS, ExpectedRun
from tests.saga.play import Play, engine
from tests.support.proxy import Fault

# What a caller may get, by machine and engine, when the engine does not recover in time or a function dies every time.
TROUBLE = {
    ("create-schedule", "spicedb"): {
        "AuthorizationUnavailable",
        "Runtime.ExitError",
        "CompensationFailed",
        "OutcomeUnknown",
    },
    ("create-schedule", "temporal"): {"TemporalUnavailable", "Runtime.ExitError", "OutcomeUnknown"},
    ("delete-schedule", "spicedb"): {"deferred"},
    ("delete-schedule", "temporal"): {"TemporalUnavailable", "Runtime.ExitError", "OutcomeUnknown", "deferred"},
}
# The states that no expected run enters, each with a case that does.
ONLY_AFTER_A_FAULT = {
    ("create-schedule", "NotReadBack"): "create-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "LeaseRunsOut"): "create-WriteRelationships:2-refused-lasting",
    ("create-schedule", "NotConfirmed"): "create-retried-WriteRelationships:2-refused-lasting",
    ("create-schedule", "NotVerified"): "create-retried-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "OutcomeUnknown"): "create-retried-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "Unverified"): "create-unheard-DescribeSchedule:1-refused-lasting",
    ("create-schedule", "CompensationFailed"): "create-rejected-DeleteRelationships:1-refused-lasting",
    ("delete-schedule", "Unverified"): "delete-unheard-DescribeSchedule:3-refused-lasting",
    ("delete-schedule", "LookAnyway"): "delete-DeleteRelationships:1-refused-lasting",
    ("delete-schedule", "LookedAnyway"): "delete-DeleteRelationships:1-refused-lasting",
    ("delete-schedule", "DeregisterDeferred"): "delete-DeleteRelationships:1-refused-lasting",
    ("delete-schedule", "OriginalError"): "delete-DescribeSchedule:1-refused-lasting",
    ("delete-schedule", "Failed"): "delete-DescribeSchedule:1-refused-lasting",
}


@dataclass(frozen=True)
class Case:
    """An expected run, and what goes wrong in it.

    Attributes:
        disturb: arranges it.
        engine: whose calls meet the fault.
        lasting: whether retries meet it too.
        stopped: whether the execution is stopped.
        first: whether its state makes this call for the first time in any expected run.
    """

    run: ExpectedRun
    fault: str
    disturb: Callable[[Play], None]
    engine: str = ""
    lasting: bool = False
    stopped: bool = False
    first: bool = False

    @property
    def name(self) -> str:
        """The name of the test case."""
        return f"{self.run.name}-{self.fault}"

    @property
    def answers(self) -> set[str]:
        """What the caller may get, as `answer` names it."""
        if self.stopped:
            return {"Stopped"}
        expected = {self.run.answer, self.run.retried or self.run.answer}
        troubled = self.lasting or (self.run.spent and self.engine)
        return expected | TROUBLE[self.run.machine, self.engine] if troubled else expected


def _meet(play: Play, method: str, number: int, fault: Fault, times: int | None) -> None:
    play.proxy(method).inject(method, fault, times=times, at=number)


def _be_late(play: Play, state: str, method: str, number: int) -> None:
    play.hasty_in = state
    play.proxy(method).on_call(method, number, play.be_patient)
    _meet(play, method, number, Fault.SLOW, times=1)


def _go_down(play: Play, method: str, number: int) -> None:
    play.proxy(method).inject(method, Fault.REFUSED, at=number)
    play.proxy(method).on_call(method, number, play.proxy(method).cut)


def _stop(play: Play, method: str, number: int) -> None:
    play.proxy(method).on_call(method, number, play.stop)


def _stop_and_kill(play: Play, method: str, number: int) -> None:
    _stop(play, method, number)
    play.proxy(method).inject(method, Fault.KILLED_BEFORE, at=number)


_FIRST_CALL = {
    (run.machine, state, method): (run.name, number)
    for run in reversed(EXPECTED_RUNS)
    for state, method, number in reversed(list(run.calls))
}


def _on_calls(run: ExpectedRun) -> Iterator[Case]:
    """Faults on every call, once and lasting; its engine goes down; the execution is stopped in it.

    To the engines, a killed function and a late call are the same as a refused call and a lost reply. Anything else
    about them depends on the state and its function alone, so these are tried only where a state makes the call for
    the first time. A late call does not last: the test would have to wait for each.
    """
    for state, method, number in run.calls:
        call, of = f"{method}:{number}", engine(method)
        first = _FIRST_CALL[run.machine, state, method] == (run.name, number)
        case = partial(Case, run, engine=of, first=first)
        for fault in Fault if first else (Fault.REFUSED, Fault.LOST_REPLY):
            name = f"{call}-{fault.name.lower().replace('_', '-')}"
            if fault is Fault.SLOW:
                yield case(name, partial(_be_late, state=state, method=method, number=number))
                continue
            meet = partial(_meet, method=method, number=number, fault=fault)
            yield case(name, partial(meet, times=1))
            yield case(f"{name}-lasting", partial(meet, times=None), lasting=True)
        yield case(f"{call}-down", partial(_go_down, method=method, number=number), lasting=True)
        # In the first case the function goes on; in the second it dies.
        yield case(f"{call}-stopped", partial(_stop, method=method, number=number), stopped=True)
        killed = partial(_stop_and_kill, method=method, number=number)
        yield case(f"{call}-stopped-and-killed", killed, stopped=True)


def _stopped_in(state: str, run: ExpectedRun, case: Case | None = None) -> Case:
    """The execution is stopped when it enters the state, which it does only after the fault of ``case``, if given."""

    def disturb(play: Play) -> None:
        play.stop_in = state
        if case:
            case.disturb(play)

    return Case(run, f"{case.fault}-stopped-in-{state}" if case else f"stopped-in-{state}", disturb, stopped=True)


ON_CALLS = {case.name: case for run in EXPECTED_RUNS for case in _on_calls(run)}
_FIRST_ENTRY = {(run.machine, state): run for run in reversed(EXPECTED_RUNS) for state in run.states}
IN_STATES = {
    **{(of, state): _stopped_in(state, run) for (of, state), run in _FIRST_ENTRY.items()},
    **{
        (of, state): _stopped_in(state, ON_CALLS[name].run, ON_CALLS[name])
        for (of, state), name in ONLY_AFTER_A_FAULT.items()
    },
}


def _in_brief() -> Iterator[str]:
    """Each fault once on every call of every state; each lasting fault once on every engine in both machines."""
    yield from ONLY_AFTER_A_FAULT.values()
    seen = set()
    for case in ON_CALLS.values():
        lasting = case.run.machine, case.engine, case.fault.partition("-")[2]
        if lasting not in seen if case.lasting else case.first:
            yield case.name
        seen.add(lasting)


# The cases of a short run, in which every state is entered; the others are slow tests.
IN_BRIEF = frozenset(_in_brief())
