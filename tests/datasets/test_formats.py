"""Every form in which people have pictures and masks is read as the page of it says."""

import pytest

from tests.helpers.formats import FORMS, PAGE, page, read_form


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}: {form.what}")
def test_a_form(form):
    assert read_form(form) == form.read


def test_the_page_says_what_is_read():
    """``python -m tests.helpers.formats`` writes it again."""
    assert PAGE.read_text(encoding="utf-8") == page()
