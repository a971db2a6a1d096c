"""A table with buttons that take it away as CSV, LaTeX or Markdown."""

import json
import re

from markupsafe import Markup

from mlprune.present import Table, to_csv, to_html, to_latex, to_markdown
from mlprune.text import visible

FORMS = {"csv": ("CSV", to_csv), "tex": ("LaTeX", to_latex), "md": ("Markdown", to_markdown)}  # by file extension


def with_buttons(table: Table) -> Markup:
    """Return a table as HTML with a button for each form; the page has to include ``take.js``.

    Example:
        >>> page = with_buttons(Table("Sizes", ("name", "size"), [("a", "1")]))
        >>> page.count("<button"), "name,size" in page
        (3, True)
    """
    stem = re.sub(r"\W+", "-", table.title).strip("-") or "table"
    forms = {form: {"text": render(table), "file": f"{stem}.{form}"} for form, (_, render) in FORMS.items()}
    data = json.dumps(forms, ensure_ascii=True).replace("<", "\\u003c")  # which could end the script
    buttons = "".join(
        f'<button type="button" data-form="{form}" aria-label="{Markup.escape(visible(f"{table.title} as {label}"))}">'
        f"{label}</button>"
        for form, (label, _) in FORMS.items()
    )
    script = f'<script type="application/json">{data}</script>'
    return Markup(f'{to_html(table)}\n<p class="take" hidden>Take it away: {buttons}{script}</p>')
