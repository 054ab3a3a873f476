"""The page of a report: one HTML file without scripts or foreign resources.

Reading order: `templates/report.html.jinja` says in which order things are shown, and
`templates/report/` has the sections that many pages lack. `page` computes what they show, `charts`
draws it as SVG, `visible` makes every key readable and harmless. The package loads jinja2, and
pygal for a chart, so its users import it in their functions.
"""
