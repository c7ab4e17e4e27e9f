"""How much text a domain gives at most, as far as it can be told before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

DOCUMENT_BYTES = 2_000
"""Of a document where nobody has counted them: on the small side, so that memory is on the safe one (C4: 2,271;
openwebtext: 4,963; the embedded domains: 3,879 to 17,374)."""


@dataclass(frozen=True, kw_only=True)
class TextSize:
    """Text of a source, or of the part of it that a stage reads; upper bounds: copies and more are left out later."""

    bytes: int
    """Of UTF-8."""
    documents: int | None = None
    """None: not counted."""
    tokens: int | None = None
    """As counted by those who publish it, with their tokenizer; None: not counted."""
    counted: str = ""
    """How those tokens were counted."""

    def within(self, max_bytes: int) -> TextSize:
        """Return the size of a part of at most this many bytes."""
        share = min(max_bytes / self.bytes, 1.0) if self.bytes else 1.0
        return replace(self, bytes=min(self.bytes, max_bytes),
                       documents=None if self.documents is None else round(share * self.documents),
                       tokens=None if self.tokens is None else round(share * self.tokens))

    @property
    def about_documents(self) -> int:
        """Documents, guessed where they were not counted."""
        return self.bytes // DOCUMENT_BYTES if self.documents is None else self.documents


def stated(size: TextSize, *chosen_by: str) -> Callable[[Any], TextSize | None]:
    """Return what tells the size of a domain's source: `size` while the fields `chosen_by`, which say what is read, are
    the plug-in's own, and None where somebody has changed one."""
    def of(science: Any) -> TextSize | None:
        fields = type(science).model_fields
        return size if all(getattr(science, name) == fields[name].default for name in chosen_by) else None

    return of
