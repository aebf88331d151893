"""The same for runs whose loaders use the device."""

from tests.data.load.device.conftest import simulated

__all__ = ["simulated"]
