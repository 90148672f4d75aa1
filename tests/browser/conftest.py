"""A Chromium that opens pages as people do, from the disk; a test fails where a page says that something is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest

NOT_MEANT = ("ERR_FILE_NOT_FOUND", "GL Driver Message")


@pytest.fixture
def context(chromium) -> Iterator:
    """Storage of its own: what one test rates, no other sees."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def open_page(context):
    """Open a file; whatever the page complains of makes the test fail."""
    complaints: list[str] = []

    def hear(message) -> None:
        # A picture that is not there is part of some tests; the page has to make do.
        # What a driver says of its own speed is not the page's.
        if message.type in ("error", "warning") and not any(each in message.text for each in NOT_MEANT):
            complaints.append(message.text)

    def opened(path: Path, width: int = 1400):
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900 if width > 1000 else 500})
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield opened
    assert complaints == []
