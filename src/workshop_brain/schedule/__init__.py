"""Timing decisions: who does what, where and when, and why.

Pure: arrays in, plans out. Loops over operations are numba kernels; import the module you need
(``problem``, ``rules``, ``react``, ``search``, ``verify``, ...), since loading numba takes time.
"""
