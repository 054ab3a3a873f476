"""Promises that are executable: for each one a break is planted, and a test of its line in CONTRIBUTING.md must fail.

Reading order: `seams` (where breaks are planted), `breaks` (what breaks), `table` (which tests notice),
`plugin` (plants a break in pytest's process), `__main__` (plays all of them).
"""
