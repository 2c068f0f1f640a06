"""What each kind of finding means, and what a person does about it. docs/operations.md says more."""

from dataclasses import dataclass

from saga_core.drift import Action, Kind


@dataclass(frozen=True)
class Advice:
    """What a person reads about a kind.

    Attributes:
        meaning: what is seen.
        to_do: what to do about it.
    """

    meaning: str
    to_do: str


ADVICE = {
    Kind.ORPHAN: Advice("relationships, and no schedule", "a repair removes them"),
    Kind.UNOWNED: Advice(
        "a schedule with a creator, and no relationship",
        "a repair restores owner, agent and fence from the memo; grants are lost",
    ),
    Kind.INCOMPLETE: Advice("the schedule's agent is missing", "a repair adds parent_agent"),
    Kind.OWNERLESS: Advice(
        "nobody is owner, perhaps on purpose", "decide: --adopt ID=user:NAME names an owner, or leave it"
    ),
    Kind.UNFENCED: Advice(
        "relationships without a fence", "a repair does what the memo allows; look at what is left with --explain"
    ),
    Kind.CONFLICTING: Advice(
        "relationships of another registration", "a repair removes them and restores those of the memo"
    ),
    Kind.OTHER_OWNER: Advice(
        "the owner is not the creator", "ask whether the schedule was handed over; only SpiceDB decides who owns it"
    ),
    Kind.REVOKED: Advice(
        "no owner may update the agent",
        "give an owner the agent back, or let --repair --pause-revoked pause the schedule",
    ),
    Kind.UNMANAGED: Advice("a schedule without a creator", "--adopt ID=user:NAME names an owner, or leave it"),
    Kind.FOREIGN: Advice("the id is not one of ours", "nothing: these are only counted"),
}

# What a repair does, by the action of a finding. Without one, a person decides.
REPAIRS = {
    Action.REMOVE: "removes the relationships",
    Action.RESTORE: "restores owner, agent and fence from the memo",
    Action.REPLACE: "removes the relationships, and restores those of the memo",
    Action.ADD_PARENT: "adds parent_agent",
    Action.ADD_FENCE: "adds the fence of the memo",
    Action.ADOPT: "registers the owner that --adopt names",
    Action.PAUSE: "pauses the schedule, with a note",
}


def advice(kind: str) -> Advice:
    """What a person reads about a kind; a later release of the machine may have others."""
    return ADVICE[Kind(kind)] if kind in list(Kind) else Advice(kind, "see docs/operations.md")


def repair(action: str) -> str | None:
    """What a repair does, or None if it does nothing."""
    if action == Action.NONE:
        return None
    return REPAIRS[Action(action)] if action in list(Action) else action
