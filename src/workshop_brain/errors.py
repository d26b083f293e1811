"""The error tree.

BrainError                  anything a user can be told about
├── ConfigError             plant.toml, command line, environment
├── SourceError             a machine, broker or server could not be reached or understood
│   ├── DecodeError         bytes from the wire do not follow the protocol
│   └── RefusedError        a collector on another host may not deliver what it wants to
├── StoreError              history or records cannot be read or written
│   ├── StoreLockedError    a second instance on the same data directory
│   ├── DamageError         a checksum does not match
│   └── DiskError           the disk or the rights to it do not let us read
├── OrderError              an order file or request cannot be accepted
├── PushError               pushed samples cannot be accepted
├── InfeasibleError         no plan satisfies the constraints
├── DispatchError           a command could not be sent
│   └── NotAllowedError     the envelope, the level or the switch forbids it
└── LedgerError             the decision ledger is broken

A message names the thing, the value and the way out.
"""


class BrainError(Exception):
    """Base of every error that a user can be told about."""


class ConfigError(BrainError):
    """plant.toml, command line or environment is wrong."""


class SourceError(BrainError):
    """A machine, broker or server could not be reached or understood."""


class DecodeError(SourceError):
    """Bytes from the wire do not follow the protocol."""


class RefusedError(SourceError):
    """A collector on another host may not deliver what it wants to."""


class StoreError(BrainError):
    """History or records cannot be read or written."""


class StoreLockedError(StoreError):
    """A second instance runs on the same data directory."""


class DamageError(StoreError):
    """A checksum does not match the stored bytes."""


class DiskError(StoreError):
    """The disk, or the rights to it, do not let stored bytes be read."""


class OrderError(BrainError):
    """An order file or request cannot be accepted."""


class PushError(BrainError):
    """Pushed samples cannot be accepted."""


class InfeasibleError(BrainError):
    """No plan satisfies the constraints."""


class DispatchError(BrainError):
    """A command could not be sent."""


class NotAllowedError(DispatchError):
    """The envelope, the autonomy level or the line's switch forbids the command."""


class LedgerError(BrainError):
    """The decision ledger is broken or does not match."""
