"""The page of a report: one HTML file without foreign resources.

Reading order: `templates/report.html.jinja` says in which order things are shown, and
`templates/report/` has the sections that many pages lack, with the charts as SVG. `page` computes
what they show, `visible` makes every key readable and harmless. The package loads jinja2, so its
users import it in their functions.
"""
