"""The tables of running totals, made of what models.totals says of them."""

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table, text
from sqlmodel import SQLModel

from models.totals import ALL, Journal

_KEY_CHARS = {"task_name": 200, "queue": 100}


def _table(journal: Journal) -> Table:
    return Table(
        journal.table,
        SQLModel.metadata,
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        *(Column(key, String(_KEY_CHARS[key]), nullable=False) for key in journal.keys),
        *(
            Column(name, Float() if name.endswith("_sum") else BigInteger(), nullable=False, server_default=text("0"))
            for name in journal.amounts
        ),
    )


TABLES = {journal.table: _table(journal) for journal in ALL}
"""By name."""
