"""Tables that were read back: texts are categories there, and texts before."""

import pandas as pd


def assert_read_back(loaded, original):
    """Require the same table, values to the bit."""
    texts = {name: str for name in loaded.columns if isinstance(loaded[name].dtype, pd.CategoricalDtype)}
    pd.testing.assert_frame_equal(loaded.astype(texts), original, check_exact=True)
