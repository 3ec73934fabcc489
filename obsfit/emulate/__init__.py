"""Emulators: the distribution of folded data as a function of parameters, learnt from simulations of it."""

from obsfit.emulate.shipped import available_emulators, load_emulator

__all__ = ["available_emulators", "load_emulator"]
