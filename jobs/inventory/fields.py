"""Fields of an inventory report that a reconciliation reads."""

from __future__ import annotations

TEXT, NUMBER, FLAG, TIME = "VARCHAR", "BIGINT", "BOOLEAN", "TIMESTAMP"

FIELDS: dict[str, str] = {
    "bucket": TEXT,
    "key": TEXT,
    "versionid": TEXT,
    "islatest": FLAG,
    "isdeletemarker": FLAG,
    "size": NUMBER,
    "lastmodifieddate": TIME,
    "etag": TEXT,
    "storageclass": TEXT,
    "ismultipartuploaded": FLAG,
    "replicationstatus": TEXT,
    "encryptionstatus": TEXT,
}
"""By their folded names, with their types in DuckDB."""

FEW_VALUED = (
    "bucket",
    "islatest",
    "isdeletemarker",
    "storageclass",
    "ismultipartuploaded",
    "replicationstatus",
    "encryptionstatus",
)
"""Fields of few values: quick to look through, and often one value in all rows."""
