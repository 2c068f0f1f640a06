"""SpiceDB, as this application uses it. The only code that knows authzed."""

from saga_spicedb.connection import spicedb
from saga_spicedb.gateway import RegisterOutcome, Removal, SpiceDB, TriggerRequest

__all__ = ["RegisterOutcome", "Removal", "SpiceDB", "TriggerRequest", "spicedb"]
