"""Formulas: text -> syntax tree -> terms and expressions; what they mean for data, R's way.

`parser` reads text (`tokens` -> `tree`), `bars` finds the random terms, `terms` has the algebra,
`expressions` evaluates with the functions of `vocabulary`, `plan` puts it all together.
"""
