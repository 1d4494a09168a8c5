"""Every deliberate error, as one tree.

    MetafleetError
    ├── ConfigError (ValueError)          a setting, option or configuration file is wrong
    ├── DataError                         data are missing, damaged or do not fit
    │   ├── DataMissingError              not on this machine; the message says how to get them
    │   ├── DataCorruptError              bytes differ from what was promised
    │   └── DecodeError                   a file or cell is not the picture, sound, ... it should be
    ├── NumericsError (ArithmeticError)   a loss or gradient is not finite
    │   └── ImpureError                   a learner or model does not repeat itself to the bit
    ├── ContractError                     a message or blob is not what the sender promised
    │   ├── ProtocolMismatchError         sender and receiver speak different versions
    │   ├── SignatureError                the deployment key does not match
    │   ├── DigestError                   bytes are not those that were promised
    │   ├── LengthError                   more or fewer bytes or values than promised
    │   ├── OversizedError                larger than anything sound; not even looked at
    │   ├── SchemaError                   other fields, names, types or shapes than agreed upon
    │   ├── NotFiniteError                a sum that came is not finite
    │   └── StaleError                    the step is closed or the epoch is old
    ├── TransientError                    may succeed if repeated
    │   ├── BlobMissingError              a blob expired or is not there yet
    │   ├── BlobStoreFullError            a blob does not fit into the store
    │   ├── BrokerUnavailableError        Redis cannot be reached
    │   └── ForeignDataError              a key of ours in Redis holds what is not ours
    ├── FleetError                        the fleet cannot finish a step
    │   ├── RunLeasedError                another orchestrator owns the run
    │   ├── FencedError                   another orchestrator took the run over
    │   ├── RunCancelledError             somebody cancelled the run
    │   ├── ShardQuarantinedError         a shard failed on every attempt
    │   └── FingerprintError              a worker's arithmetic differs from the run's
    ├── DatabaseError                     the database refuses, is missing or out of date
    │   └── DatabaseUnavailableError      the database is away, locked or full; it may pass
    ├── RunNotFoundError (LookupError)    no run has the requested id
    ├── CheckpointError                   a checkpoint is missing, damaged or cannot be written
    └── ModelError                        a kept model is missing, damaged or cannot be written

Each takes one string, the finished message: what happened with the value, what was expected,
what to do. (One argument keeps every error picklable, which Celery's pool needs.)
"""

from typing import ClassVar


class MetafleetError(Exception):
    """Root of every deliberate error; built from one string, the finished message."""


class ConfigError(MetafleetError, ValueError):
    """A setting, option or configuration file is wrong."""


class DataError(MetafleetError):
    """Data are missing, damaged or do not fit what was asked of them."""


class DataMissingError(DataError):
    """Data are not on this machine; the message says how to get them."""


class DataCorruptError(DataError):
    """Bytes differ from what was promised (checksum, header, truncated file)."""


class DecodeError(DataError):
    """The bytes of a file or cell are not the picture, sound, text, ... they should be."""


class NumericsError(MetafleetError, ArithmeticError):
    """A loss or gradient is not finite."""


class ImpureError(NumericsError):
    """A learner or model is no function of the state and the episode alone."""


class ContractError(MetafleetError):
    """A message or blob is not what its sender promised.

    Attributes:
        reason: the kind of breach, as counters name it.
    """

    reason: ClassVar[str] = "contract"


class ProtocolMismatchError(ContractError):
    """Sender and receiver speak different protocol versions."""

    reason = "protocol"


class SignatureError(ContractError):
    """A signature does not match the deployment key."""

    reason = "signature"


class DigestError(ContractError):
    """Bytes are not those that were promised."""

    reason = "digest"


class LengthError(ContractError):
    """More or fewer bytes or values than were promised."""

    reason = "length"


class OversizedError(ContractError):
    """Larger than anything sound can be: not even looked at."""

    reason = "oversized"


class SchemaError(ContractError):
    """Other fields, names, types or shapes than were agreed upon."""

    reason = "schema"


class NotFiniteError(ContractError):
    """A sum that came is not finite."""

    reason = "non_finite"


class StaleError(ContractError):
    """The step is closed or the epoch is old: the work is no longer wanted."""

    reason = "stale"


class TransientError(MetafleetError):
    """May succeed if repeated; the only class that is retried."""


class BlobMissingError(TransientError):
    """A blob expired, was deleted, or is not there yet."""

    reason: ClassVar[str] = "missing_blob"


class BlobStoreFullError(TransientError):
    """A blob does not fit into the blob store; the message names its key and length."""


class BrokerUnavailableError(TransientError):
    """Redis cannot be reached or does not answer."""


class ForeignDataError(TransientError):
    """A key of ours in Redis holds what is not ours; it is dropped before the next try."""


class FleetError(MetafleetError):
    """The fleet cannot finish a step."""


class RunLeasedError(FleetError):
    """Another orchestrator owns the run."""


class FencedError(FleetError):
    """Another orchestrator took the run over."""


class RunCancelledError(FleetError):
    """Somebody cancelled the run while it was executed."""


class ShardQuarantinedError(FleetError):
    """A shard failed on every attempt it was allowed."""


class FingerprintError(FleetError):
    """A worker's arithmetic differs from the run's."""


class DatabaseError(MetafleetError):
    """The database refuses, is missing or is out of date."""


class DatabaseUnavailableError(DatabaseError):
    """The database is away, locked or full; the same call may succeed later."""


class RunNotFoundError(MetafleetError, LookupError):
    """No run has the requested id."""


class CheckpointError(MetafleetError):
    """A checkpoint is missing, damaged or cannot be written."""


class ModelError(MetafleetError):
    """A model in a folder is missing, damaged, of another version, or cannot be written."""
