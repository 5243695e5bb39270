"""How many servers an objective takes: from the measured curve of one to a plan for many.

``curve`` reads the curve from a report, ``model`` fits a queue to it, ``plan`` asks the model, ``page`` draws.
"""
