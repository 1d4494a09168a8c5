"""The hierarchy of errors that Metafleet raises deliberately.

    MetafleetError
    ├── ConfigError (ValueError)          a setting, option or configuration file is wrong
    ├── DataError                         data are missing, damaged or do not fit
    │   ├── DataMissingError              data are not here; the message says how to get them
    │   ├── DataCorruptError              bytes differ from the expected ones
    │   └── DecodeError                   a file or cell is not the picture, sound, ... it should be
    ├── NumericsError (ArithmeticError)   a loss or gradient is not finite
    │   └── ImpureError                   a learner or model is not bit-reproducible
    ├── ContractError                     a message or blob violates the protocol
    │   ├── ProtocolMismatchError         sender and receiver speak different versions
    │   ├── SignatureError                the signing key does not match
    │   ├── DigestError                   bytes do not match their digest
    │   ├── LengthError                   the number of bytes or values is wrong
    │   ├── OversizedError                a message is too large to be valid and is not read
    │   ├── SchemaError                   fields, names, types or shapes violate the schema
    │   ├── NotFiniteError                a received sum is not finite
    │   └── StaleError                    the step is closed or the epoch is old
    ├── TransientError                    the operation may succeed if repeated
    │   ├── BlobMissingError              a blob expired or is not there yet
    │   │   └── FeaturesMissingError      features of the run's data are in no store yet
    │   ├── BlobStoreFullError            a blob does not fit into the store
    │   ├── BrokerUnavailableError        Redis cannot be reached
    │   └── ForeignDataError              one of our keys in Redis holds foreign data
    ├── FleetError                        the fleet cannot finish a step
    │   ├── RunLeasedError                another orchestrator owns the run
    │   ├── FencedError                   another orchestrator took the run over
    │   ├── RunCancelledError             a user cancelled the run
    │   ├── ShardQuarantinedError         a shard failed on every attempt
    │   └── FingerprintError              a worker's arithmetic differs from the run's
    ├── DatabaseError                     the database refuses, is missing or is out of date
    │   └── DatabaseUnavailableError      the database is down, locked or full; retry later
    ├── RunNotFoundError (LookupError)    no run has the requested id
    ├── CheckpointError                   a checkpoint is missing, damaged or cannot be written
    └── ModelError                        a saved model is missing, damaged or cannot be written

Each error takes one string, the complete message. The message says what happened, with the value,
what was expected, and what to do. An error with a single argument can be pickled, which Celery's
pool needs.
"""

from typing import ClassVar


class MetafleetError(Exception):
    """Base class of every deliberate error; takes one string, the complete message."""


class ConfigError(MetafleetError, ValueError):
    """A setting, option or configuration file is wrong."""


class DataError(MetafleetError):
    """Data are missing, damaged or do not fit the request."""


class DataMissingError(DataError):
    """Data are not on this machine; the message says how to get them."""


class DataCorruptError(DataError):
    """Bytes differ from the expected ones (checksum, header, truncated file)."""


class DecodeError(DataError):
    """The bytes of a file or cell are not the picture, sound, text, ... they should be."""


class NumericsError(MetafleetError, ArithmeticError):
    """A loss or gradient is not finite."""


class ImpureError(NumericsError):
    """A learner or model depends on more than the state and the episode."""


class ContractError(MetafleetError):
    """A message or blob violates the protocol.

    Attributes:
        reason: the kind of violation, as counters name it.
    """

    reason: ClassVar[str] = "contract"


class ProtocolMismatchError(ContractError):
    """Sender and receiver speak different protocol versions."""

    reason = "protocol"


class SignatureError(ContractError):
    """A signature does not match the signing key."""

    reason = "signature"


class DigestError(ContractError):
    """Bytes do not match their digest."""

    reason = "digest"


class LengthError(ContractError):
    """More or fewer bytes or values than were announced."""

    reason = "length"


class OversizedError(ContractError):
    """Larger than any valid message or blob, and therefore not read."""

    reason = "oversized"


class SchemaError(ContractError):
    """Fields, names, types or shapes differ from the schema."""

    reason = "schema"


class NotFiniteError(ContractError):
    """A received sum is not finite."""

    reason = "non_finite"


class StaleError(ContractError):
    """The step is closed or the epoch is old: the result is no longer needed."""

    reason = "stale"


class TransientError(MetafleetError):
    """May succeed if repeated; the only class that is retried."""


class BlobMissingError(TransientError):
    """A blob expired, was deleted, or is not there yet."""

    reason: ClassVar[str] = "missing_blob"


class FeaturesMissingError(BlobMissingError):
    """Features of the run's data are neither on this host nor in a store yet."""

    reason = "missing_data"


class BlobStoreFullError(TransientError):
    """A blob does not fit into the blob store; the message names its key and length."""


class BrokerUnavailableError(TransientError):
    """Redis cannot be reached or does not answer."""


class ForeignDataError(TransientError):
    """One of our keys in Redis holds foreign data; it is deleted before the next try."""


class FleetError(MetafleetError):
    """The fleet cannot finish a step."""


class RunLeasedError(FleetError):
    """Another orchestrator owns the run."""


class FencedError(FleetError):
    """Another orchestrator took the run over."""


class RunCancelledError(FleetError):
    """A user cancelled the run during its execution."""


class ShardQuarantinedError(FleetError):
    """A shard failed on every attempt it was allowed."""


class FingerprintError(FleetError):
    """A worker's arithmetic differs from the run's."""


class DatabaseError(MetafleetError):
    """The database refuses, is missing or is out of date."""


class DatabaseUnavailableError(DatabaseError):
    """The database is down, locked or full; the same call may succeed later."""


class RunNotFoundError(MetafleetError, LookupError):
    """No run has the requested id."""


class CheckpointError(MetafleetError):
    """A checkpoint is missing, damaged or cannot be written."""


class DrawingError(MetafleetError):
    """An episode cannot be drawn again."""


class ModelError(MetafleetError):
    """A model in a folder is missing, damaged, of another version, or cannot be written."""
