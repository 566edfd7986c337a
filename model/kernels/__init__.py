"""Faster ways to compute the modules of model/transformer.py.

A kernel is a subclass of a module, with its parameters and another `__call__` or part of it. choose.py has the rules by
which a network, a shape and a device take one, install.py gives it to the modules of a network, and
tests/model/test_kernels.py holds each to its definition. A module without a kernel is computed as it is defined.
"""
