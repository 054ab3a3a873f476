"""Small mutants of the program, each against its nearest tests: `make mutants`.

`mutants` makes them, `nearest` says which tests, `campaign` plays them in copies of the checkout, and
`judged` knows the survivors that change nothing, with the reasons in `judged.toml`.
"""
