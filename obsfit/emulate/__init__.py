"""Emulators: the distribution of folded data as a function of parameters, learnt from simulations of it."""
