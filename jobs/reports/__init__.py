"""Reports: the result of a run, as a JSON document and as a page.

Reading order: `document` makes and judges a report, `figures` formats numbers for people, `publish`
writes both files into the ledger, `html` renders the page. `report.schema.json` is the document's
schema.

A report never says more than the outcomes that it counts.
"""
