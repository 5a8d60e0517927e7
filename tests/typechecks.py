"""The run-time type check of public functions while tests run."""

from beartype import BeartypeConf, beartype

#: Like `beartype`, but an int is accepted where a float is declared (PEP 484's tower).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
