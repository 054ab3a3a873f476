"""The page of a report: one HTML file without foreign resources.

Reading order: `page` says what is shown and in which order, `elements` makes HTML of it, in the frame
that all pages have, `visible` makes every key readable and harmless. Every text is escaped where an
element takes it, and texts from outside go through `visible`.
"""
