"""Results as plain data: what JSON can hold, and nothing that it cannot."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


class Record:
    """A frozen dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Give all fields as plain data; a number that is undefined or infinite becomes None."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(content) for key, content in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(content) for content in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
