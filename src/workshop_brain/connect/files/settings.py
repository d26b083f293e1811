"""Settings of a folder of sample files; plant.toml's ``[[source]] protocol = "files"``."""

import codecs
import zoneinfo
from dataclasses import dataclass, field
from typing import ClassVar

from workshop_brain.connect.choice import Override, choice_fault

LAYOUTS = ("auto", "wide", "long")
DECIMALS = ("auto", ".", ",")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSettings:
    """One folder into which files with samples are put.

    Attributes
    ----------
    folder
        Absolute path, or from where the brain was started.
    files
        Globs of the names to take; temporary and hidden names never are.
    layout
        ``wide``: a time column and a column for each signal; ``long``: time, signal, value.
    time_column, signal_column, value_column
        Headers; "" finds the usual ones.
    root
        Names above those in the file, ``site/area/line/cell/unit``; ``{file}`` is the file's name.
    encoding
        Of CSV files; ``auto`` is UTF-8, else GB18030.
    timezone
        Where times without an offset were written.
    replay
        0: original stamps, as fast as can be stored. Else the stamps are moved to now and played
        at this many times their speed.
    poll_s
        Between two looks at the folder, seconds; a file is taken once it stood still for one.
    """

    protocol: ClassVar[str] = "files"
    schemes: ClassVar[tuple[str, ...]] = ("file",)

    id: str
    folder: str
    url: str = ""
    files: tuple[str, ...] = ("*.csv", "*.txt", "*.parquet", "*.xlsx", "*.xls")
    layout: str = "auto"
    time_column: str = ""
    signal_column: str = ""
    value_column: str = ""
    root: str = ""
    encoding: str = "auto"
    delimiter: str = "auto"
    decimal: str = "auto"
    timezone: str = "UTC"
    replay: float = 0.0
    poll_s: float = 1.0
    user: str = ""
    password_env: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    override: tuple[Override, ...] = field(default=(), metadata={"rows": Override})

    def fault(self) -> str:
        """Key and what is wrong with its value; "" when nothing is.

        >>> FilesSettings(id="lab", folder="in", decimal=";").fault()
        "decimal: must be auto, . or ,; got ';'"
        """
        if self.url or self.user or self.password_env:
            return "url, user, password_env: a folder has none; mount it and name it in folder"
        if not self.folder.strip():
            return "folder: is empty; name the folder that files are put into"
        if not self.files:
            return "files: is empty and would take nothing; leave it out to take all kinds"
        if self.layout not in LAYOUTS:
            return f"layout: must be auto, wide or long, got {self.layout!r}"
        if self.decimal not in DECIMALS:
            return f"decimal: must be auto, . or ,; got {self.decimal!r}"
        if self.delimiter != "auto" and len(self.delimiter) != 1:
            return f"delimiter: must be auto or one character, got {self.delimiter!r}"
        if self.poll_s < 1.0:
            return f"poll_s: must be at least 1, got {self.poll_s:g}"
        try:
            codecs.lookup("utf-8" if self.encoding == "auto" else self.encoding)
        except LookupError:
            return f"encoding: no encoding {self.encoding!r}; utf-8, gb18030 and latin-1 are some"
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            return f"timezone: no time zone {self.timezone!r}; a name like 'Asia/Shanghai' is meant"
        return choice_fault(self.include, self.exclude, self.override)
