"""The page of a report: one HTML file without foreign resources.

Reading order: `templates/page.html.jinja` says in which order things are shown, `page` computes what
they are, `visible` makes every key readable and harmless. The package loads jinja2, so its users
import it in their functions.
"""
