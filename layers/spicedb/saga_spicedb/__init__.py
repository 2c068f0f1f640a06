"""SpiceDB, as this application uses it. The only code that knows authzed."""

from saga_spicedb.connection import spicedb
from saga_spicedb.gateway import Deregistered, RegisterOutcome, SpiceDB, TriggerRequest

__all__ = ["Deregistered", "RegisterOutcome", "SpiceDB", "TriggerRequest", "spicedb"]
