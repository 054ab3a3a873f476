"""The page of a report: one HTML file without scripts or foreign resources.

Reading order: `page` decides what is shown, `charts` draws it as SVG, `visible` makes every key
readable and harmless. Templates are in `templates/`. The package loads jinja2 and pygal, so its
users import it in their functions.
"""
