"""The suite that every store adapter passes; shipped, so that adapters out of tree can too.

from tidestore.connectors.conformance import StoreContract

class TestMyStore(StoreContract):
    @pytest.fixture
    async def store(self): ...
"""

from tidestore.connectors.conformance.suite import StoreContract

__all__ = ["StoreContract"]
