"""Texts that this package writes and people edit: a fingerprint in the last line tells whether somebody has."""

from __future__ import annotations

import hashlib

SIGNATURE = "\n<!-- written by onesearch; fingerprint of the text above: "
"""What stands before the fingerprint, as a comment in Markdown."""


def signed(text: str) -> str:
    """Return the text with a last line that holds its fingerprint."""
    text = text.rstrip() + "\n"
    return f"{text}{SIGNATURE}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def is_unedited(text: str) -> bool:
    """Return whether a text is as `signed` made it."""
    return text == signed(text.rpartition(SIGNATURE)[0])


__all__ = ["is_unedited", "signed"]
