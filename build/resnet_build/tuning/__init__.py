"""``resnet-build tune``: the scheduling of an ensemble, chosen by measuring on the machine that serves it.

A few measurements of the network and of ``preprocess`` (:mod:`calibration`) give the costs (:mod:`costs`); with these a
simulation (:mod:`simulation`) predicts what every setting (:mod:`candidates`) would reach; only the promising few run
on the real server (:mod:`contest`, :mod:`ladder`), and the best is written into the configurations (:mod:`record`).
"""
