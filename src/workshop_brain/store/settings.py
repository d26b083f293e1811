"""What the historian can be told."""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from workshop_brain.model.signal import SignalKind

_SSL_MODES = ("", "disable", "require", "verify-full")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorianSettings:
    """How the historian keeps data.

    Attributes
    ----------
    seal_rows, seal_s
        A memory table becomes a file at this many rows or this age (seconds), whichever is first.
    seal_curve_bytes
        Or when its curves hold this many bytes: a vibration curve may have ten million.
    tables
        Full memory tables that may wait for sealing before appends have to wait.
    merge
        Files of one level and date that are merged into one of the next level.
    retain_days, retain_rollup_days
        Raw files (and curves) and rollups older than this many days are dropped; 0 keeps them for
        ever. Now is the median of the signals' newest source times, at most a day ahead of the
        brain's clock.
    retain_gauge_days, retain_counter_days, retain_state_days, retain_flag_days, retain_text_days
        The same for the samples of one class of signals, instead of ``retain_days``; None: as
        ``retain_days``. Classes that are kept equally long share files.
    retain_curve_days
        Curves older than this many days are dropped; 0: they go with ``retain_days``.
    catalog, catalog_password_env
        Where the catalog is kept: ``postgresql://user@host/database``, and the environment variable
        with the password. Without an address it stays where it is, in a file beside the data at
        first.
    """

    seal_rows: int = 1_000_000
    seal_curve_bytes: int = 64 * 1024**2
    seal_s: float = 60.0
    tables: int = 3
    merge: int = 20
    retain_days: int = 0
    retain_gauge_days: int | None = None
    retain_counter_days: int | None = None
    retain_state_days: int | None = None
    retain_flag_days: int | None = None
    retain_text_days: int | None = None
    retain_rollup_days: int = 0
    retain_curve_days: int = 0
    catalog: str = ""
    catalog_password_env: str = ""

    def __post_init__(self) -> None:
        if self.seal_rows < 1 or self.seal_s <= 0 or self.tables < 1 or self.merge < 2:
            raise ValueError(f"historian settings out of range: {self}")

    def days_of(self, kind: SignalKind) -> int:
        """Days for which raw samples of a class are kept; 0: for ever."""
        days: int | None = getattr(self, f"retain_{kind.name.lower()}_days")
        return self.retain_days if days is None else days


def catalog_fault(url: str) -> str:
    """What is wrong with a catalog's address; "" when nothing is.

    >>> catalog_fault("postgresql://brain@db:5432/plant?sslmode=verify-full")
    ''
    >>> catalog_fault("postgresql://brain:secret@db/plant")
    'holds a password; give the name of an environment variable in catalog_password_env'
    """
    parts = urlsplit(url)
    if parts.scheme != "postgresql" or not parts.hostname or not parts.path.strip("/"):
        return "must be postgresql://user@host:port/database"
    if parts.password is not None:
        return "holds a password; give the name of an environment variable in catalog_password_env"
    options = parse_qs(parts.query)
    if options.keys() - {"schema", "sslmode"} or url_option(url, "sslmode") not in _SSL_MODES:
        return "may end with ?schema=NAME and &sslmode=disable, require or verify-full only"
    return ""


def url_option(url: str, name: str) -> str:
    """An option behind the ``?`` of an address; "" when it is not there."""
    return parse_qs(urlsplit(url).query).get(name, [""])[0]
